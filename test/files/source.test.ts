import { execFileSync } from "node:child_process";
import { mkdtempSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { fromFiles } from "../../src/files/directory.js";
import { type ByteSource, fromBlob, fromBytes, readAll, readRange } from "../../src/files/source.js";
import { openDirectory } from "../../src/node/directory.js";
import { openFile } from "../../src/node/file-source.js";

const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
const answering = (answer: Uint8Array): ByteSource => ({
  name: "liar",
  byteLength: 100,
  slice: async () => answer,
});

function temporary(content: Uint8Array): string {
  const path = join(mkdtempSync(join(tmpdir(), "isq-")), "file");
  writeFileSync(path, content);
  return path;
}

describe("ranges", () => {
  test.each([
    ["bytes", async () => fromBytes(bytes)],
    ["a blob", async () => fromBlob(new Blob([bytes]))],
    ["a file", async () => openFile(temporary(bytes))],
  ])("of %s", async (_what, open) => {
    const source = await open();
    expect(await readRange(source, 10, 20)).toEqual(bytes.slice(10, 20));
    expect(await readRange(source, 100, 100)).toHaveLength(0);
    expect(await readAll(source, 100)).toEqual(bytes);
    for (const [start, end] of [
      [-1, 5],
      [5, 4],
      [0, 101],
      [0.5, 2],
      [0, Number.NaN],
    ]) {
      await expect(readRange(source, start, end)).rejects.toMatchObject({ tag: "source/range" });
    }
    await expect(readAll(source, 99)).rejects.toMatchObject({
      tag: "source/range",
      details: { value: 100, limit: 99 },
    });
    await source.close?.();
  });

  test.each([0, 9, 11, 100])("an answer of %i bytes for 10 is refused", async (length) => {
    await expect(readRange(answering(new Uint8Array(length)), 0, 10)).rejects.toMatchObject({
      tag: "source/short",
      details: { file: "liar", value: length, limit: 10 },
    });
  });

  test("more than one typed array may hold is refused before anything is read", async () => {
    const source = { ...answering(bytes), byteLength: 2 ** 40 };
    await expect(readRange(source, 0, 2 ** 32)).rejects.toMatchObject({
      tag: "source/range",
      details: { value: 2 ** 32, limit: 2 ** 32 - 1 },
    });
  });

  test.each([
    [
      "throws",
      () => {
        throw new Error("cable cut");
      },
    ],
    ["rejects", () => Promise.reject(new Error("cable cut"))],
    ["rejects with anything", () => Promise.reject("cable cut")],
  ])("a source that %s", async (_what, slice) => {
    const refused = readRange({ name: "far away", byteLength: 100, slice }, 0, 10);
    await expect(refused).rejects.toMatchObject({ tag: "source/read", details: { file: "far away" } });
    await expect(refused).rejects.toThrow("cable cut");
  });

  test("a file after it was closed", async () => {
    const source = await openFile(temporary(bytes));
    await source.close?.();
    await expect(readRange(source, 0, 10)).rejects.toMatchObject({ tag: "source/read" });
  });

  test("a file that shrinks after it was opened", async () => {
    const path = temporary(bytes);
    const source = await openFile(path);
    truncateSync(path, 50);
    await expect(readRange(source, 40, 60)).rejects.toMatchObject({ tag: "source/short" });
    await source.close?.();
  });
});

describe("opening", () => {
  test("what is not there, and what is no file or folder", async () => {
    await expect(openFile("no/such/file")).rejects.toMatchObject({
      tag: "source/open",
      details: { file: "no/such/file" },
    });
    await expect(openFile("src")).rejects.toMatchObject({ tag: "source/open" });
    const pipe = join(mkdtempSync(join(tmpdir(), "isq-")), "pipe");
    execFileSync("mkfifo", [pipe]);
    await expect(openFile(pipe)).rejects.toMatchObject({ tag: "source/open" });
    await expect(openDirectory("no/such/folder")).rejects.toMatchObject({ tag: "source/open" });
    await expect(openDirectory("package.json")).rejects.toMatchObject({ tag: "source/open" });
    await expect(fromFiles([]).open("x")).rejects.toMatchObject({ tag: "source/open" });
    await expect(openCheckpoint(fromFiles([]))).rejects.toMatchObject({ tag: "source/open" });
  });

  test("a checkpoint that fails to open closes what it had opened", async () => {
    let open = 0;
    const directory = {
      name: "counting",
      has: async (file: string) => file === "model.safetensors",
      async open() {
        open++;
        return { ...fromBytes(bytes), close: async () => void open-- };
      },
    };
    await expect(openCheckpoint(directory)).rejects.toMatchObject({ name: "IsqError" });
    expect(open).toBe(0);
  });
});
