/** Quantization while the server runs, and what it tells of itself. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SERVER_LIMITS } from "../../src/server/index.js";
import { routesOf } from "../../src/server/openapi.js";
import { type Fixture, KEY, serve, until } from "./support.js";

let fixture: Fixture;
beforeAll(async () => {
  fixture = await serve();
});
afterAll(() => fixture?.close());

const CHAT = "/v1/chat/completions";
const TEXT = "The database connection is closed when the transaction ends, and the file is written again.";

describe("plans", () => {
  test("what is in force, and what another type would do, without doing it", async () => {
    const { body: inForce } = await fixture.get("/v1/isq/plan");
    expect(inForce).toMatchObject({ requested: "Q4K", totals: { quantizedTensors: 43, tensors: 57 } });
    const { body: other } = await fixture.post("/v1/isq/plan", { isq: "q2_k" });
    expect(other.requested).toBe("Q2K");
    expect(other.totals.byteLength).toBeLessThan(inForce.totals.byteLength);
    expect((await fixture.get("/v1/isq/plan")).body.requested).toBe("Q4K");
    expect(await fixture.post("/v1/isq/plan", { isq: "Q9" })).toMatchObject({
      status: 400,
      body: { error: { code: "type/unknown" } },
    });
  });
});

describe("re-ISQ", () => {
  test("answers when it is done, with what changed; texts that run go on", async () => {
    const running = fixture.client.chat.completions.create({
      model: "tiny",
      messages: [{ role: "user", content: "The database" }],
      max_tokens: 120,
      logit_bias: { 2: -100 },
    });
    await until(() => fixture.model.load.running === 1);
    const { status, body } = await fixture.post("/re_isq", { ggml_type: "q8_0" });
    expect(status).toBe(200);
    expect(body).toMatchObject({
      kind: "re_isq",
      type: "Q8_0",
      status: "done",
      progress: { done: 43, total: 43 },
      report: { from: "source", failures: [], totals: { quantizedTensors: 43 } },
      error: null,
    });
    expect(body.report.tensors).toHaveLength(43);
    expect((await running).usage!.completion_tokens).toBe(120);
    expect((await fixture.get("/v1/isq/plan")).body.requested).toBe("Q8_0");
    const { data } = await fixture.client.models.list();
    expect(data).toMatchObject([{ isq: "Q8_0" }]);
  });

  test("or at once, with a job to ask about; one at a time", async () => {
    const begun = await fixture.post("/re_isq", { ggml_type: "Q4K", wait: false });
    expect(begun).toMatchObject({ status: 202, body: { status: "running", type: "Q4K" } });
    expect(begun.headers.get("location")).toBe("/re_isq");
    const second = await fixture.post("/re_isq", { ggml_type: "Q5K" });
    expect(second).toMatchObject({
      status: 409,
      body: { error: { code: "job_running", type: "conflict_error" } },
    });
    let job = begun.body;
    const seen = new Set<number>();
    while (job.status === "running") {
      ({ body: job } = await fixture.get("/re_isq"));
      seen.add(job.progress.done);
    }
    expect(job).toMatchObject({ id: begun.body.id, status: "done", progress: { total: 43, done: 43 } });
    expect(seen.size).toBeGreaterThan(1);
  });

  test("the weights change what is said, and the fingerprint with them", async () => {
    const ask = () => fixture.post(CHAT, { messages: "The database", max_tokens: 24, logprobs: true });
    const before = (await ask()).body;
    expect((await ask()).body.choices).toEqual(before.choices);
    await fixture.post("/re_isq", { ggml_type: "Q2K", from: "resident" });
    const after = (await ask()).body;
    expect(after.choices).not.toEqual(before.choices);
    expect(after.system_fingerprint).not.toBe(before.system_fingerprint);
    await fixture.post("/re_isq", { ggml_type: "Q4K", from: "source" });
    const again = (await ask()).body;
    expect([again.choices, again.system_fingerprint]).toEqual([before.choices, before.system_fingerprint]);
  });
});

describe("perplexity", () => {
  test("is that of the library, and rises with fewer bits", async () => {
    const measured = await fixture.post("/v1/isq/perplexity", { text: TEXT });
    const expected = await fixture.model.perplexity(TEXT);
    expect(measured.body).toMatchObject({ isq: "Q4K", predictions: expected.predictions });
    expect(measured.body.tokenWeighted).toBeCloseTo(expected.tokenWeighted, 9);
    expect(measured.body.standardError).toBeCloseTo(expected.standardError, 9);
    const chunks = await fixture.post("/v1/isq/perplexity", { text: TEXT, chunk_tokens: 8 });
    expect(chunks.body.chunks.length).toBeGreaterThan(1);
    await fixture.post("/re_isq", { ggml_type: "Q2K" });
    const worse = await fixture.post("/v1/isq/perplexity", { text: TEXT });
    expect(worse.body.tokenWeighted).toBeGreaterThan(measured.body.tokenWeighted);
    await fixture.post("/re_isq", { ggml_type: "Q4K" });
    expect((await fixture.post("/v1/isq/perplexity", { text: "" })).status).toBe(400);
  });
});

describe("calibration", () => {
  test("collects from what runs, and quantizes again with it", async () => {
    const nothing = await fixture.post("/calibration/apply", {});
    expect(nothing).toMatchObject({ status: 409, body: { error: { code: "calibration/none" } } });
    expect((await fixture.get("/calibration/status")).body).toMatchObject({ collecting: false });
    const start = () =>
      fetch(`${fixture.url}/calibration/start`, {
        method: "POST",
        headers: { authorization: `Bearer ${KEY}` },
      });
    expect(await (await start()).json()).toMatchObject({ collecting: true, totalRows: 0 });
    expect((await start()).status).toBe(400);
    const early = await fixture.post("/calibration/apply", {});
    expect(early).toMatchObject({ status: 409, body: { error: { code: "calibration/none" } } });
    await fixture.post(CHAT, { messages: TEXT, max_tokens: 1 });
    const { body } = await fixture.get("/calibration/status");
    expect(body.layersTracking).toBe(body.layers);
    const applied = await fixture.post("/calibration/apply", { wait: true });
    expect(applied).toMatchObject({ status: 200, body: { kind: "calibration", status: "done" } });
    expect((await fixture.get("/calibration/status")).body.collecting).toBe(false);
    const plan = (await fixture.get("/v1/isq/plan")).body;
    expect(plan.rows.filter(({ importance }: { importance: string }) => importance === "used").length).toBe(
      43,
    );
  });
});

describe("what it tells", () => {
  test("tokens and back", async () => {
    const { body } = await fixture.post("/tokenize", { text: TEXT });
    expect(body.tokens).toEqual(fixture.model.promptTokens({ prompt: TEXT }));
    expect(body.count).toBe(body.tokens.length);
    const long = "a line of text. ".repeat(300);
    const elsewhere = await fixture.post("/tokenize", { text: long, add_special_tokens: false });
    expect(elsewhere.body.tokens).toEqual(fixture.model.tokenizer.encode(long, { addSpecialTokens: false }));
    expect((await fixture.post("/detokenize", { tokens: body.tokens })).body.text).toBe(TEXT);
    const special = await fixture.post("/detokenize", { tokens: body.tokens, skip_special_tokens: false });
    expect(special.body.text).toBe(`<s>${TEXT}`);
    const outside = await fixture.post("/detokenize", { tokens: [1, 4096] });
    expect(outside).toMatchObject({ status: 400, body: { error: { code: "prompt/token" } } });
  });

  test("metrics count requests, tokens and texts", async () => {
    const read = async () => {
      const response = await fetch(`${fixture.url}/metrics`, { headers: { authorization: `Bearer ${KEY}` } });
      expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
      const text = await response.text();
      return (name: string) =>
        Number(
          text
            .split("\n")
            .find((line) => line.startsWith(`${name} `))
            ?.split(" ")[1] ?? 0,
        );
    };
    const before = await read();
    await fixture.post(CHAT, { messages: "a", max_tokens: 3, logit_bias: { 2: -100 } });
    await fetch(`${fixture.url}/${"x".repeat(50)}`, { headers: { authorization: `Bearer ${KEY}` } });
    const later = await read();
    const grown = (name: string) => later(name) - before(name);
    expect(grown('isq_tokens_total{kind="completion"}')).toBe(3);
    expect(grown('isq_texts_total{reason="length"}')).toBe(1);
    expect(grown(`isq_http_requests_total{route="${CHAT}",status="200"}`)).toBe(1);
    expect(grown('isq_http_requests_total{route="other",status="404"}')).toBe(1);
    expect(grown("isq_first_token_seconds_count")).toBe(1);
    expect(later("isq_up")).toBe(1);
    expect(later("isq_cache_blocks_free")).toBe(later("isq_cache_blocks"));
  });

  test("OpenAPI has every route, and every route of it is there", async () => {
    const { body } = await fixture.get("/openapi.json");
    expect(body.openapi).toBe("3.1.0");
    const listed = Object.entries(body.paths).flatMap(([path, methods]) =>
      Object.keys(methods as object).map((method) => `${method} ${path}`),
    );
    expect(listed.sort()).toEqual(
      routesOf(SERVER_LIMITS)
        .map(({ method, path }) => `${method} ${path}`)
        .sort(),
    );
    for (const { method, path } of routesOf(SERVER_LIMITS)) {
      const response = await fetch(fixture.url + path.replace("{id}", "tiny"), {
        method: method.toUpperCase(),
        headers: { authorization: `Bearer ${KEY}` },
      });
      // Without a body every POST is refused for that, and nothing is refused for not being there.
      const refusals = method === "post" ? [200, 400, 415] : [200];
      expect(refusals, `${method} ${path}`).toContain(response.status);
      await response.arrayBuffer();
    }
    const chat = body.paths[CHAT].post.requestBody.content["application/json"].schema;
    expect(chat.required).toEqual(["messages"]);
    expect(JSON.stringify(chat.properties.temperature)).toContain('"maximum":2');
    expect((await fixture.get("/api-doc/openapi.json")).body).toEqual(body);
  });
});
