/** Byte sources over HTTP, and servers that lie. */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { openGguf } from "../../src/files/gguf.js";
import { fromUrl } from "../../src/files/http-source.js";
import { readRange } from "../../src/files/source.js";
import { writeContent } from "./gguf-support.js";

type Handler = (start: number, end: number, response: ServerResponse, count: number) => void;

let file: Uint8Array;
beforeAll(async () => {
  const data = new Uint8Array(4096).map((_, i) => i * 7);
  const tensors = [{ name: "t.weight", type: "F32", shape: [32, 32], data }];
  file = await writeContent({
    metadata: new Map([["general.architecture", { type: "string", value: "llama" }]]),
    tensors,
  });
});

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A server on a free port; `handle` answers all requests after the first `honest` ones, which get what they ask for. */
async function serve(handle: Handler, honest = 1): Promise<string> {
  let count = 0;
  const server = createServer((request: IncomingMessage, response) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
    const [start, end] = [Number(from), Number(to) + 1];
    (count++ < honest ? answer : handle)(start, end, response, count);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.gguf`;
}

const rangeOf = (start: number, end: number, length = file.length) => ({
  "content-range": `bytes ${start}-${end - 1}/${length}`,
});
const answer: Handler = (start, end, response) => {
  response.writeHead(206, rangeOf(start, end)).end(file.subarray(start, end));
};

test("a file is read by ranges", async () => {
  const source = await fromUrl(await serve(answer));
  expect(source.byteLength).toBe(file.length);
  expect(await readRange(source, 10, 200)).toEqual(file.slice(10, 200));
  const opened = await openGguf(source);
  expect((await opened.read("t.weight"))[3]).toBe(21);
});

const LIES: readonly [string, Handler, string][] = [
  ["ignores the range", (_s, _e, response) => void response.writeHead(200).end(file), "source/read"],
  ["answers with a page", (_s, _e, response) => void response.writeHead(200).end("<html>"), "source/read"],
  ["fails", (_s, _e, response) => void response.writeHead(503).end(), "source/read"],
  [
    "gives another range",
    (start, end, response) =>
      void response.writeHead(206, rangeOf(start + 1, end + 1)).end(file.subarray(start + 1, end + 1)),
    "source/read",
  ],
  [
    "gives fewer bytes",
    (start, end, response) =>
      void response.writeHead(206, rangeOf(start, end)).end(file.subarray(start, end - 1)),
    "source/short",
  ],
  [
    "gives more bytes",
    (start, end, response) =>
      void response
        .writeHead(206, rangeOf(start, end))
        .end(Buffer.concat([file.subarray(start, end), Buffer.of(0)])),
    "source/short",
  ],
  [
    "says another length than before",
    (start, end, response) =>
      void response.writeHead(206, rangeOf(start, end, file.length + 1)).end(file.subarray(start, end)),
    "source/read",
  ],
  [
    "breaks off",
    (start, end, response) => {
      response.writeHead(206, { ...rangeOf(start, end), "content-length": end - start });
      response.write(file.subarray(start, end - 5), () => response.destroy());
    },
    "source/read",
  ],
  [
    "never ends",
    (start, end, response) => {
      response.writeHead(206, rangeOf(start, end));
      const more = () => {
        while (response.write(new Uint8Array(65536)));
      };
      response.on("drain", more);
      more();
    },
    "source/short",
  ],
  ["says nothing", (_s, _e, response) => void response.flushHeaders(), "source/read"],
  [
    "falls silent",
    (start, end, response) =>
      void response.writeHead(206, rangeOf(start, end)).write(file.subarray(start, start + 5)),
    "source/read",
  ],
];

describe("a server that", () => {
  test.each(LIES)("%s", async (_name, handle, tag) => {
    const source = await fromUrl(await serve(handle), { idleSeconds: 0.5 });
    await expect(readRange(source, 10, 200)).rejects.toMatchObject({ name: "IsqError", tag });
    await expect(openGguf(source)).rejects.toMatchObject({ name: "IsqError", tag });
  });

  test.each(LIES.filter(([name]) => name !== "breaks off"))("%s from the start", async (name, handle) => {
    const url = await serve(handle, 0);
    const opening = fromUrl(url, { idleSeconds: 0.5 });
    // A single byte cannot be cut, and another length is the first that is heard of.
    if (name === "says another length than before")
      return expect((await opening).byteLength).toBe(file.length + 1);
    await expect(opening).rejects.toMatchObject({ name: "IsqError", tag: "source/open" });
  });
});
