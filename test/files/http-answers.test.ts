/** What becomes of every kind of answer to a range request, without a server. */

import { describe, expect, test } from "vitest";
import { type Fetch, fromUrl, type HttpOptions } from "../../src/files/http-source.js";
import { readRange } from "../../src/files/source.js";

const URL_OF_FILE = "http://far.away/model";
const LENGTH = 1000;
const file = Uint8Array.from({ length: LENGTH }, (_, i) => i);

interface Answer {
  readonly status?: number;
  readonly range?: string | null;
  readonly parts?: readonly Uint8Array[] | null;
}
type Respond = (start: number, end: number) => Answer;

const requests: { url: string; range: string; signal: AbortSignal }[] = [];
let cancelled = 0;

/** Answers as a good server does where `respond` says nothing else. */
function fetchFrom(respond: Respond): Fetch {
  return async (url, { headers, signal }) => {
    const { range: asked } = headers as { range: string };
    requests.push({ url, range: asked, signal: signal as AbortSignal });
    const [start, last] = asked.slice("bytes=".length).split("-").map(Number);
    const { status = 206, range, parts } = respond(start, last + 1);
    const value = range === undefined ? `bytes ${start}-${last}/${LENGTH}` : range;
    const body = parts === null ? null : streamOf(parts ?? [file.subarray(start, last + 1)]);
    return new Response(body, { status, headers: value === null ? {} : { "content-range": value } });
  };
}

function streamOf(parts: readonly Uint8Array[]): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at < parts.length) controller.enqueue(parts[at++]);
      else controller.close();
    },
    cancel: () => void cancelled++,
  });
}

/** Opens with good answers to the first request, `respond` to others. */
function openThen(respond: Respond, options: HttpOptions = {}) {
  [requests.length, cancelled] = [0, 0];
  const fetch = fetchFrom((start, end) => (requests.length === 1 ? {} : respond(start, end)));
  return fromUrl(URL_OF_FILE, { fetch, ...options });
}

test("each slice is one request for its bytes", async () => {
  const source = await openThen(() => ({}));
  expect(source).toMatchObject({ name: URL_OF_FILE, byteLength: LENGTH });
  expect(await readRange(source, 10, 200)).toEqual(file.slice(10, 200));
  expect(await readRange(source, 999, 1000)).toEqual(file.slice(999));
  expect(requests.map(({ range }) => range)).toEqual(["bytes=0-0", "bytes=10-199", "bytes=999-999"]);
  expect(new Set(requests.map(({ url }) => url))).toEqual(new Set([URL_OF_FILE]));
  expect(cancelled).toBe(0);
});

test("an answer comes in parts of any size", async () => {
  const bytes = file.subarray(10, 30);
  for (const size of [1, 7, 19, 20]) {
    const parts: Uint8Array[] = [];
    for (let at = 0; at < 20; at += size) parts.push(bytes.subarray(at, at + size));
    const source = await openThen(() => ({ parts }));
    expect(await source.slice(10, 30)).toEqual(bytes);
    expect(cancelled).toBe(0);
  }
});

const REFUSED: readonly [string, Answer][] = [
  ["the whole file", { status: 200 }],
  ["the whole file and no range", { status: 200, range: null }],
  ["a failure", { status: 503, range: null }],
  ["no range", { range: null }],
  ["an earlier start", { range: "bytes 9-19/1000" }],
  ["a later start", { range: "bytes 11-19/1000" }],
  ["an earlier end", { range: "bytes 10-18/1000" }],
  ["a later end", { range: "bytes 10-20/1000" }],
  ["words before the range", { range: "x bytes 10-19/1000" }],
  ["words after the range", { range: "bytes 10-19/1000 x" }],
  ["no length", { range: "bytes 10-19/*" }],
  ["a length beyond exact integers", { range: "bytes 10-19/9007199254740993" }],
];

describe("refused, and its body not read", () => {
  test.each(REFUSED)("%s", async (_what, answer) => {
    const source = await openThen(() => answer);
    await expect(source.slice(10, 20)).rejects.toMatchObject({
      name: "IsqError",
      tag: "source/read",
      details: { file: URL_OF_FILE, reason: expect.stringMatching(/\S/) },
    });
    expect(cancelled).toBe(1);
  });

  test("at the first request as well", async () => {
    for (const answer of [{ status: 200 }, { range: null }, { range: "bytes 0-1/1000" }, { parts: [] }]) {
      const fetch = fetchFrom(() => answer);
      await expect(fromUrl(URL_OF_FILE, { fetch })).rejects.toMatchObject({
        tag: "source/open",
        details: { file: URL_OF_FILE },
      });
    }
    const fetch = fetchFrom(() => ({ status: 404, range: null, parts: null }));
    await expect(fromUrl(URL_OF_FILE, { fetch })).rejects.toMatchObject({ tag: "source/open" });
  });

  test("another length than before", async () => {
    const source = await openThen((start, end) => ({ range: `bytes ${start}-${end - 1}/${LENGTH + 1}` }));
    await expect(source.slice(10, 20)).rejects.toMatchObject({ tag: "source/read" });
  });
});

test("of more bytes than asked for one is taken, and the rest is cut off", async () => {
  const endless = Array(1000).fill(new Uint8Array(6));
  const source = await openThen(() => ({ parts: endless }));
  expect(await source.slice(10, 20)).toHaveLength(11);
  expect(cancelled).toBe(1);
  await expect(readRange(source, 10, 20)).rejects.toMatchObject({
    tag: "source/short",
    details: { value: 11 },
  });
});

test("fewer bytes, and no body", async () => {
  const short = await openThen(() => ({ parts: [new Uint8Array(9)] }));
  expect(await short.slice(10, 20)).toHaveLength(9);
  const empty = await openThen(() => ({ parts: null }));
  expect(await empty.slice(10, 20)).toHaveLength(0);
});

test("why a request failed is kept", async () => {
  for (const cause of [new Error("cable cut"), "cable cut"]) {
    const fetch = () => Promise.reject(cause);
    const refused = fromUrl(URL_OF_FILE, { fetch });
    await expect(refused).rejects.toMatchObject({ tag: "source/open", cause });
    await expect(refused).rejects.toMatchObject({ details: { file: URL_OF_FILE, reason: "cable cut" } });
  }
});

/** Waits until the request is given up. */
const hanging: Fetch = (_url, { signal }) =>
  new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));

test("silence ends a request, and only silence", async () => {
  await expect(fromUrl(URL_OF_FILE, { fetch: hanging, idleSeconds: 0.02 })).rejects.toMatchObject({
    tag: "source/open",
    details: { reason: expect.stringContaining("0.02 s") },
  });
  const source = await openThen(() => ({}), { idleSeconds: 0.05 });
  await source.slice(10, 20);
  await new Promise((done) => setTimeout(done, 100));
  expect(requests.map(({ signal }) => signal.aborted)).toEqual([false, false]);
});

test("the caller may end a request", async () => {
  const stop = new AbortController();
  const opening = fromUrl(URL_OF_FILE, { fetch: hanging, signal: stop.signal });
  stop.abort(new Error("enough"));
  await expect(opening).rejects.toMatchObject({ tag: "source/open", details: { reason: "enough" } });
});

test("without options: the runtime's fetch, and a minute of silence", async () => {
  const { fetch, setTimeout: timer } = globalThis;
  const waits: (number | undefined)[] = [];
  globalThis.fetch = fetchFrom(() => ({})) as typeof fetch;
  globalThis.setTimeout = ((run: () => void, wait?: number) => {
    waits.push(wait);
    return timer(run, wait);
  }) as typeof timer;
  try {
    expect((await fromUrl(URL_OF_FILE)).byteLength).toBe(LENGTH);
  } finally {
    Object.assign(globalThis, { fetch, setTimeout: timer });
  }
  expect(waits).toContain(60_000);
});
