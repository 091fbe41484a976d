/** How the server starts, who may ask, that it answers while it works, and how it stops. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TextModel } from "../../src/run.js";
import { openLog, SERVER_LIMITS, startServer } from "../../src/server/index.js";
import { eventStream } from "../../src/server/sse.js";
import { TextModelBuilder } from "../../src/text-model-builder.js";
import { exchange, type Fixture, KEY, loadModel, serve, until } from "./support.js";

let model: TextModel;
beforeAll(async () => {
  model = await loadModel(4);
});
afterAll(() => model?.dispose());

/** A server over the common model, stopped afterwards. */
async function withServer(
  options: Parameters<typeof serve>[0],
  use: (fixture: Fixture) => Promise<void>,
): Promise<void> {
  const fixture = await serve(options, model);
  try {
    await use(fixture);
  } finally {
    await fixture.server.stop();
  }
}

const CHAT = "/v1/chat/completions";
const endless = { messages: "The database", max_tokens: 1500, logit_bias: { 2: -100 }, stream: true };
const headers = { authorization: `Bearer ${KEY}`, "content-type": "application/json" };

function openStream(url: string, body: object = endless, signal?: AbortSignal): Promise<Response> {
  return fetch(url + CHAT, {
    method: "POST",
    headers,
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });
}

describe("starting", () => {
  test("503 until the model is there; what failed is told", async () => {
    let finish: (model: TextModel) => void = () => {};
    const loading = new Promise<TextModel>((resolve) => (finish = resolve));
    const server = await startServer(loading, { port: 0 });
    const health = await fetch(`${server.url}/health`);
    expect([health.status, await health.json()]).toMatchObject([503, { status: "loading" }]);
    const early = await fetch(`${server.url}/v1/models`);
    expect([early.status, early.headers.get("retry-after")]).toEqual([503, "5"]);
    expect((await early.json()).error.code).toBe("loading");
    finish(model);
    await server.ready;
    expect((await fetch(`${server.url}/v1/models`)).status).toBe(200);
    await server.stop();
    const failing = await startServer(Promise.reject(new Error("secret path")), { port: 0 });
    await expect(failing.ready).rejects.toThrowError("secret path");
    const failed = await fetch(`${failing.url}/v1/models`);
    expect(failed.status).toBe(503);
    expect(await failed.text()).not.toContain("secret");
    await failing.stop();
  });

  test("only this machine without a key; a taken port and backends that would block are refused", async () => {
    for (const host of ["0.0.0.0", "::", "192.168.1.1"]) {
      await expect(startServer(model, { host, port: 0 })).rejects.toMatchObject({ tag: "option/conflict" });
    }
    await expect(startServer(model, { apiKey: "" })).rejects.toMatchObject({ tag: "option/invalid" });
    const open = await startServer(model, { host: "0.0.0.0", port: 0, allowWithoutKey: true });
    const port = Number(new URL(open.url).port);
    await expect(startServer(model, { port })).rejects.toMatchObject({
      tag: "option/invalid",
      details: { field: "port" },
    });
    await open.stop();
    const slow = await new TextModelBuilder("models/tiny-mistral").withBackend("wasm").build();
    const server = await startServer(slow, { port: 0 });
    await expect(server.ready).rejects.toMatchObject({
      tag: "option/unsupported",
      details: { value: "wasm" },
    });
    await server.stop();
    await slow.dispose();
  });
});

describe("who may ask", () => {
  test("a key is needed for all but the page and the health, and a part of it is none", async () => {
    await withServer({}, async ({ url }) => {
      const status = async (path: string, authorization?: string) =>
        (await fetch(url + path, { headers: authorization ? { authorization } : {} })).status;
      for (const path of ["/health", "/"]) expect(await status(path), path).toBe(200);
      for (const path of [
        "/metrics",
        "/v1/models",
        "/re_isq",
        "/openapi.json",
        "/calibration/status",
        "/nothing",
      ]) {
        expect(await status(path), path).toBe(401);
      }
      for (const key of [
        "",
        "Bearer ",
        `Bearer ${KEY.slice(0, -1)}`,
        `Bearer ${KEY}x`,
        KEY,
        `Basic ${KEY}`,
      ]) {
        expect(await status("/v1/models", key)).toBe(401);
      }
      expect(await status("/v1/models", `Bearer ${KEY}`)).toBe(200);
      const refused = await fetch(`${url}/re_isq`, { method: "POST", body: '{"ggml_type":"Q8_0"}' });
      expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
    });
  });

  test("names that are not this server's are refused: they may be rebound", async () => {
    await withServer({ allowedHosts: ["isq.example"] }, async ({ url }) => {
      const ask = (host: string) =>
        exchange(url, [`GET /health HTTP/1.1\r\n${host}connection: close\r\n\r\n`]);
      for (const host of ["localhost:1234", "127.0.0.1", "[::1]:80", "192.168.7.7", "ISQ.example"]) {
        expect(await ask(`host: ${host}\r\n`), host).toMatch(/^HTTP\/1.1 200/);
      }
      for (const host of ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"]) {
        expect(await ask(`host: ${host}\r\n`), host).toMatch(/^HTTP\/1.1 403/);
      }
      for (const host of ["", "host: \r\n"]) expect(await ask(host)).toMatch(/^HTTP\/1.1 400.*bad_request/s);
    });
  });

  test("pages of other origins may not ask unless they are allowed", async () => {
    const post = (url: string, origin: string, type = "application/json") =>
      fetch(url + CHAT, {
        method: "POST",
        headers: { ...headers, origin, "content-type": type },
        body: JSON.stringify({ messages: "a", max_tokens: 1 }),
      });
    const preflight = (url: string, origin: string) =>
      fetch(url + CHAT, { method: "OPTIONS", headers: { origin, "access-control-request-method": "POST" } });
    await withServer({}, async ({ url }) => {
      for (const origin of ["https://evil.example", "null", "http://127.0.0.1:1"]) {
        const answer = await post(url, origin);
        expect([answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([403, null]);
        expect((await preflight(url, origin)).status).toBe(403);
      }
      expect((await post(url, url)).status).toBe(200);
      // What a form can send without asking is no JSON.
      expect((await post(url, url, "text/plain")).status).toBe(415);
    });
    await withServer({ corsOrigins: ["https://app.example"] }, async ({ url }) => {
      const allowed = await post(url, "https://app.example");
      expect(allowed.headers.get("access-control-allow-origin")).toBe("https://app.example");
      const asked = await preflight(url, "https://app.example");
      expect([asked.status, asked.headers.get("access-control-allow-headers")]).toEqual([
        204,
        "authorization, content-type",
      ]);
      // The official client in a browser tells what it runs on in headers of its own.
      const wanted = "authorization,content-type,x-stainless-lang,x-stainless-retry-count";
      const browser = await fetch(url + CHAT, {
        method: "OPTIONS",
        headers: { origin: "https://app.example", "access-control-request-headers": wanted },
      });
      expect(browser.headers.get("access-control-allow-headers")).toBe(wanted);
      expect((await post(url, "https://evil.example")).status).toBe(403);
    });
  });
});

describe("while it works", () => {
  test("health is answered while a long prompt runs, and before it is done", async () => {
    await withServer({}, async ({ url, get }) => {
      const prompt = new Array(700).fill(300);
      let done = false;
      const long = fetch(`${url}/v1/completions`, {
        method: "POST",
        headers,
        body: JSON.stringify({ prompt, max_tokens: 1 }),
      }).then(async (response) => {
        await response.json();
        done = true;
        return response.status;
      });
      await until(() => model.load.running === 1);
      for (let round = 0; round < 3; round++) {
        expect((await get("/health")).status).toBe(200);
        expect(done).toBe(false);
      }
      expect(await long).toBe(200);
    });
  });

  test("nothing is kept of a request that was answered, streamed, refused or dropped", async () => {
    await withServer({}, async ({ url, post }) => {
      const open = async () => {
        const text = await (await fetch(`${url}/metrics`, { headers })).text();
        return Number(/^isq_open_requests (\d+)$/m.exec(text)?.[1]);
      };
      const dropping = new AbortController();
      const dropped = await openStream(url, endless, dropping.signal);
      expect(await open()).toBe(1);
      const many = { messages: "a", max_tokens: 2, n: 12, temperature: 1 };
      const warnings: string[] = [];
      const warned = ({ name }: Error) => void warnings.push(name);
      process.on("warning", warned);
      expect((await post(CHAT, many)).status).toBe(200);
      await (await openStream(url, { ...endless, max_tokens: 2 })).text();
      expect((await post(CHAT, { messages: "a", logit_bias: { 99999: 1 } })).status).toBe(400);
      dropping.abort();
      await dropped.text().catch(() => {});
      while ((await open()) > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      process.off("warning", warned);
      expect(warnings).toEqual([]);
    });
  });

  test("a client that does not read is given up", async () => {
    async function* values() {
      for (let n = 0; ; n++) yield n;
    }
    let dropped: (reason: string) => void = () => {};
    const reason = new Promise<string>((resolve) => (dropped = resolve));
    const limits = { ...SERVER_LIMITS, stallMs: 20 };
    const stream = eventStream(values(), limits, dropped, () => {});
    const reader = stream.getReader();
    const { value } = await reader.read();
    expect(new TextDecoder().decode(value)).toBe("data: 0\n\n");
    expect(await reason).toBe("the client does not read");
    await reader.cancel();
  });

  test("a stream without news sends comments", async () => {
    await withServer({ limits: { keepAliveMs: 1 } }, async ({ url }) => {
      const response = await openStream(url, { messages: "word ".repeat(300), max_tokens: 2, stream: true });
      const text = await response.text();
      expect(text).toContain(": keep-alive\n\n");
      expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
    });
  });

  test("an over-long prompt loses its beginning where the server cuts", async () => {
    await withServer({ truncate: true }, async ({ post }) => {
      const tokens = Array.from({ length: 2100 }, (_, i) => 300 + (i % 50));
      const cut = await post("/v1/completions", { prompt: [1, ...tokens], max_tokens: 2 });
      expect(cut.body.usage.prompt_tokens).toBe(2046);
      const whole = await post("/v1/completions", { prompt: [1, ...tokens.slice(-2045)], max_tokens: 2 });
      expect(cut.body.choices).toEqual(whole.body.choices);
    });
  });

  test("the log has what was asked and answered, and no key", async () => {
    const lines: string[] = [];
    const log = openLog({ write: (line: string) => lines.push(line) });
    await withServer({ log }, async ({ post, get }) => {
      await post(CHAT, { messages: "a\nb", max_tokens: 1 });
      await get("/nothing");
    });
    const entries = lines.map((line) => JSON.parse(line));
    expect(entries.map(({ msg }) => msg)).toEqual([
      "request",
      "asked",
      "answered",
      "response",
      "request",
      "response",
    ]);
    expect(entries[1].body.messages).toBe("a\nb");
    expect(entries[2].body.choices).toHaveLength(1);
    expect(lines.join("")).not.toContain(KEY);
  });
});

describe("stopping", () => {
  test("lets what runs finish, and takes nothing new", async () => {
    const fixture = await serve({}, model);
    const running = openStream(fixture.url, { ...endless, max_tokens: 60 });
    await until(() => model.load.running === 1);
    const response = await running;
    const stopped = fixture.server.stop();
    await expect(fetch(`${fixture.url}/health`)).rejects.toThrowError();
    const text = await response.text();
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
    await stopped;
    expect(model.load.running).toBe(0);
  });

  test("ends what takes too long", async () => {
    const fixture = await serve({ limits: { drainMs: 50 } }, model);
    const response = await openStream(fixture.url);
    await fixture.server.stop();
    const text = await response.text();
    expect(text).not.toContain("[DONE]");
    expect(text).toContain('"code":"aborted"');
    await until(() => model.load.running === 0);
  });
});
