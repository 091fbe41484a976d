/** Requests that no client should send: each is answered in the form of the interface, and the server stays up. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startServer } from "../../src/server/index.js";
import { exchange, type Fixture, KEY, serve, until } from "./support.js";

let fixture: Fixture;
beforeAll(async () => {
  fixture = await serve({ limits: { bodyBytes: 300_000, queued: 8 } });
});
afterAll(() => fixture?.close());
afterEach(async () => {
  const { status, body } = await fixture.get("/health");
  expect([status, body.status]).toEqual([200, "ok"]);
});

const CHAT = "/v1/chat/completions";
const fine = { messages: [{ role: "user", content: "a" }], max_tokens: 1 };
const HEAD = `POST ${CHAT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${KEY}\r\ncontent-type: application/json\r\n`;

function expectError(body: { error: Record<string, unknown> }): void {
  expect(Object.keys(body.error).sort()).toEqual(["code", "message", "param", "type"]);
  expect(typeof body.error["message"]).toBe("string");
}

/** The JSON after the headers of a raw answer. */
const bodyOf = (answer: string) => JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4));

async function send(body: BodyInit, headers: Record<string, string> = {}, path = CHAT) {
  const response = await fetch(fixture.url + path, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json", ...headers },
    body,
    ...(typeof body === "object" && { duplex: "half" }),
  } as RequestInit);
  const answer = await response.json();
  expectError(answer);
  return { status: response.status, ...answer.error };
}

describe("bodies", () => {
  test("too long: 413, declared or not, before anything is parsed", async () => {
    const long = JSON.stringify({ ...fine, user: "x".repeat(300_000) });
    expect(await send(long)).toMatchObject({ status: 413, code: "body_too_large" });
    const chunks = new ReadableStream({
      start(controller) {
        for (let i = 0; i < 40; i++) controller.enqueue(new TextEncoder().encode(" ".repeat(10_000)));
        controller.close();
      },
    });
    expect(await send(chunks)).toMatchObject({ status: 413 });
    const declared = await exchange(fixture.url, [`${HEAD}content-length: 99999999999\r\n\r\n{`], /\}\}/);
    expect(declared).toMatch(/^HTTP\/1.1 413/);
    expectError(bodyOf(declared));
  });

  test("slow headers and slow bodies: 408, and the connection is closed", async () => {
    const hasty = await startServer(fixture.model, { port: 0, limits: { headersMs: 300, requestMs: 600 } });
    const headers = await exchange(hasty.url, ["POST / HTTP/1.1\r\nhost: localhost\r\n", 400, "a: b\r\n"]);
    expect(headers).toMatch(/^HTTP\/1.1 408/);
    expectError(bodyOf(headers));
    const body = await exchange(hasty.url, [`${HEAD}content-length: 100\r\n\r\n{`, 300, '"a"', 300, ":"]);
    expect(body).toMatch(/^HTTP\/1.1 408/);
    await hasty.stop();
  });

  test("a megabyte of headers: 431", async () => {
    const answer = await exchange(fixture.url, [`${HEAD}x: ${"y".repeat(1_000_000)}\r\n\r\n`]);
    expect(answer).toMatch(/^HTTP\/1.1 431/);
    expectError(bodyOf(answer));
  });

  test("no HTTP at all: 400", async () => {
    const answer = await exchange(fixture.url, ["\x16\x03\x01\x02\x00\x01\r\n\r\n"]);
    expect(answer).toMatch(/^HTTP\/1.1 400/);
    expectError(bodyOf(answer));
  });

  test.each([
    ["not JSON", "{", "invalid_json"],
    ["empty", "", "invalid_json"],
    ["an array", "[]", "invalid_value"],
    ["a number", "7", "invalid_value"],
    ["null", "null", "invalid_value"],
    ["100,000 levels", "[".repeat(100_000), "too_deep"],
    ["deep in a field that is ignored", `{"x":${"[".repeat(1000)}${"]".repeat(1000)}}`, "too_deep"],
    ["half a surrogate pair", '{"messages":[{"role":"user","content":"\\ud800"}]}', "invalid_text"],
    ["half a pair in a key", '{"\\udc00":1}', "invalid_text"],
    ["two NaN", '{"messages":"a","temperature":NaN}', "invalid_json"],
  ])("%s: 400", async (_what, body, code) => {
    const { status, code: told, param } = await send(body);
    expect([status, told]).toEqual([400, code]);
    expect(param).not.toBe(""); // null where no field is to blame
  });

  test("bytes that are no UTF-8, and other content types", async () => {
    expect(await send(Uint8Array.of(0x7b, 0xff, 0x7d))).toMatchObject({ status: 400, code: "invalid_utf8" });
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""]) {
      expect(await send(JSON.stringify(fine), { "content-type": type })).toMatchObject({ status: 415 });
    }
  });

  test("NUL, emoji and unknown fields are fine", async () => {
    const messages = [{ role: "user", content: "a\0b 😀", name: "x" }];
    const more = { messages, max_tokens: 1, unknown: { deep: [1] }, __proto__: 1, user: "u", store: false };
    const { status } = await fixture.post(CHAT, more);
    expect(status).toBe(200);
    expect(({} as Record<string, unknown>)["unknown"]).toBeUndefined();
  });
});

describe("fields", () => {
  const absurd: [string, unknown[]][] = [
    ["max_tokens", [-1, 0, 1e18, "5", 1.5, true, []]],
    ["max_completion_tokens", [0, "1"]],
    ["temperature", [999999, -0.1, "NaN", "1", {}]],
    ["top_p", [-1, 1.1, "x"]],
    ["top_k", [0, -1, 1.5, 2 ** 60]],
    ["min_p", [-0.1, 2]],
    ["repetition_penalty", [0, -1, 1e9]],
    ["frequency_penalty", [3, -3]],
    ["presence_penalty", [2.5, "1"]],
    ["n", [0, -1, 10 ** 6, 1.5]],
    ["seed", [2 ** 64, 1.5, "1"]],
    ["logprobs", [10 ** 6, "true"]],
    ["top_logprobs", [21, -1, 5]],
    ["logit_bias", [{ a: 1 }, { "-1": 1 }, { 3: 101 }, { 3: "x" }, [1], { 99999: 1 }, { constructor: 1 }]],
    ["stop", [[""], "", new Array(17).fill("a"), "x".repeat(2000), 5]],
    ["stream", ["true", 1]],
    ["model", [5, "x".repeat(300)]],
    ["messages", [[], {}, 5, [5], [{}], [{ role: "user", content: 5 }], [{ role: "U$", content: "a" }]]],
    ["tools", [[{ type: "function" }]]],
    ["response_format", [{ type: "json_object" }, { type: "json_schema", json_schema: { pattern: "(" } }]],
    [
      "grammar",
      [
        { type: "regex", value: "(".repeat(60_000) },
        { type: "lark", value: "x" },
      ],
    ],
    ["dry_multiplier", [0.5]],
    ["chat_template_kwargs", [{ messages: "x" }, { bos_token: "x" }, { a: {} }]],
  ];

  test.each(absurd)("%s: 400 that names it", async (field, values) => {
    for (const value of values) {
      const answer = await send(JSON.stringify({ ...fine, [field]: value }));
      expect(answer.status, JSON.stringify(value)).toBe(400);
      expect(answer.param, answer.message).toMatch(new RegExp(`^${field}\\b`));
    }
  });

  test("null is as good as absent; what asks for nothing is allowed", async () => {
    const idle = { tools: [], tool_choice: "none", response_format: { type: "text" }, dry_multiplier: 0 };
    const nulls = Object.fromEntries(absurd.map(([field]) => [field, null]));
    const { status } = await fixture.post(CHAT, { ...nulls, ...idle, ...fine });
    expect(status).toBe(200);
  });

  test("images and sounds are refused, and nothing is fetched for them", async () => {
    const part = (extra: object) => ({ ...fine, messages: [{ role: "user", content: [extra] }] });
    for (const url of [
      "file:///etc/passwd",
      "http://127.0.0.1:1/x",
      `data:image/png;base64,${"A".repeat(1000)}`,
    ]) {
      const answer = await send(JSON.stringify(part({ type: "image_url", image_url: { url } })));
      expect(answer).toMatchObject({ status: 400, param: "messages.0.content.0.type" });
    }
    const sound = part({ type: "input_audio", input_audio: { data: "" } });
    expect(await send(JSON.stringify(sound))).toMatchObject({ status: 400 });
  });

  test("a model's name is no path", async () => {
    for (const model of ["../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x"]) {
      const { status, body } = await fixture.post(CHAT, { ...fine, model });
      expect([status, body.model]).toEqual([200, "tiny"]);
    }
    for (const id of ["../../etc/passwd", "..%2f..%2fetc%2fpasswd"]) {
      const { status, body } = await fixture.get(`/v1/models/${id}`);
      expect(status).toBe(404);
      expectError(body);
    }
  });

  test("prompts and tokens that cannot be", async () => {
    const post = (body: object) => send(JSON.stringify({ max_tokens: 1, ...body }), {}, "/v1/completions");
    for (const prompt of [[], [[]], [-1], [1.5], [[4096]], 7, {}, ["a", 5], new Array(65).fill("a")]) {
      expect((await post({ prompt })).status, JSON.stringify(prompt)).toBe(400);
    }
    for (const [field, value] of [
      ["best_of", 5],
      ["suffix", "x"],
      ["logprobs", true],
      ["echo", "yes"],
    ] as const) {
      expect(await post({ prompt: "a", [field]: value })).toMatchObject({ status: 400, param: field });
    }
    const nothing = await fixture.post("/v1/completions", { prompt: "", max_tokens: 1 });
    expect(nothing.status).toBe(200); // the BOS alone
  });

  test("a prompt that cannot fit is refused before it is tokenized, and a long one is tokenized elsewhere", async () => {
    const lines = { ...fine, messages: [{ role: "user", content: "\n".repeat(140_000) }] };
    const answer = await send(JSON.stringify(lines));
    expect(answer).toMatchObject({ status: 400, code: "context_length_exceeded", param: "prompt" });
    expect(answer.message).toContain("characters");
    const words = send(
      JSON.stringify({ ...fine, messages: [{ role: "user", content: "a b ".repeat(12_000) }] }),
    );
    let over = false;
    void words.then(() => (over = true));
    await fixture.get("/health");
    expect(over).toBe(false);
    expect(await words).toMatchObject({ status: 400, code: "context_length_exceeded" });
  });
});

describe("routes", () => {
  test("what is not there: 404; other methods: 405 with those that are", async () => {
    for (const [path, method, status] of [
      ["/nothing", "GET", 404],
      ["/v1/images/generations", "POST", 404],
      ["/../../etc/passwd", "GET", 404],
      ["/page/../package.json", "GET", 404],
      [CHAT, "GET", 405],
      ["/health", "DELETE", 405],
    ] as const) {
      const response = await fetch(fixture.url + path, {
        method,
        headers: { authorization: `Bearer ${KEY}` },
      });
      expect(response.status, path).toBe(status);
      expectError(await response.json());
      if (status === 405) expect(response.headers.get("allow")).toBe(path === CHAT ? "POST" : "GET");
    }
  });

  test("failures tell nothing of the inside", async () => {
    const answer = await send(JSON.stringify({ ggml_type: "Q9" }), {}, "/re_isq");
    expect(answer).toMatchObject({ status: 400, code: "type/unknown" });
    expect(answer.message).toContain("Q4K");
    expect(JSON.stringify(answer)).not.toMatch(/\/work|node_modules|at .*\.js/);
  });
});

describe("many at once", () => {
  test("beyond what may wait: 429 with Retry-After; streams that are dropped give their places back", async () => {
    const controller = new AbortController();
    const open = () =>
      fetch(fixture.url + CHAT, {
        method: "POST",
        headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
        body: JSON.stringify({ messages: "a", max_tokens: 2000, stream: true, logit_bias: { 2: -100 } }),
        signal: controller.signal,
      });
    const responses = await Promise.all(Array.from({ length: 60 }, open));
    const refused = responses.filter(({ status }) => status === 429);
    // Sixteen run and eight wait. Which of the requests come through depends on nothing but their order.
    expect(refused).toHaveLength(60 - 16 - 8);
    expect(refused[0].headers.get("retry-after")).toBe("1");
    expectError(await refused[0].json());
    expect(fixture.model.load).toMatchObject({ running: 16, waiting: 8 });
    controller.abort();
    await until(() => fixture.model.load.running + fixture.model.load.waiting === 0);
    const { freeCacheBlocks, cacheBlocks } = fixture.model.load;
    expect(freeCacheBlocks).toBe(cacheBlocks);
  });
});

test("the catalogue above has a test for every kind the server's limits name", () => {
  const folder = "src/server";
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (file) => file.endsWith(".ts") && file !== "limits.ts" && statSync(`${folder}/${file}`).isFile(),
  );
  const code = files.map((file) => readFileSync(`${folder}/${file}`, "utf8")).join("\n");
  const limits = [...readFileSync(`${folder}/limits.ts`, "utf8").matchAll(/^ {2}(\w+):/gm)].map(
    ([, name]) => name,
  );
  expect(limits.length).toBeGreaterThan(15);
  for (const limit of limits) expect(code, `${limit} is enforced`).toContain(`limits.${limit}`);
});
