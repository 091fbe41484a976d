/** Folders of files in memory, and what sources say of themselves. */

import { expect, test } from "vitest";
import { IsqError } from "../../src/errors.js";
import { type Directory, fromFiles, readFile } from "../../src/files/directory.js";
import { fromBlob, fromBytes, readAll, readRange, shareSource } from "../../src/files/source.js";

const bytes = Uint8Array.of(1, 2, 3, 4);
const blob = new Blob([bytes]);

test("a folder of blobs", async () => {
  const folder = fromFiles([["a.json", blob]], "dropped");
  expect(folder.name).toBe("dropped");
  expect([await folder.has("a.json"), await folder.has("b.json")]).toEqual([true, false]);
  expect(await folder.open("a.json")).toMatchObject({ name: "dropped/a.json", byteLength: 4, blob });
  expect(await readFile(folder, "a.json", 4)).toEqual(bytes);
  await expect(readFile(folder, "a.json", 3)).rejects.toMatchObject({
    tag: "source/range",
    details: { file: "dropped/a.json", field: "byteLength", value: 4, limit: 3 },
  });
  const missing = { tag: "source/open", details: { file: "files/b.json" } };
  await expect(fromFiles([["a.json", blob]]).open("b.json")).rejects.toMatchObject(missing);
});

test("what is read from a folder is closed, also when reading fails", async () => {
  let closed = 0;
  const folder: Directory = {
    name: "counting",
    has: async () => true,
    open: async (name) => ({ ...fromBytes(bytes, name), close: async () => void closed++ }),
  };
  await readFile(folder, "a", 4);
  expect(closed).toBe(1);
  await expect(readFile(folder, "a", 3)).rejects.toMatchObject({ tag: "source/range" });
  expect(closed).toBe(2);
});

test("names of sources that were given none", () => {
  expect([fromBytes(bytes).name, fromBlob(blob).name]).toEqual(["bytes", "blob"]);
});

test("a thread may read plain files and blobs for itself, and nothing else", () => {
  expect(shareSource({ ...fromBytes(bytes, "a"), path: "/folder/a" })).toEqual({ path: "/folder/a" });
  expect(shareSource(fromBlob(blob, "b"))).toEqual({ path: "b", blob });
  expect(shareSource(fromBytes(bytes))).toBeNull();
});

test("refused ranges with their fields", async () => {
  const source = fromBytes(bytes, "f");
  for (const range of [
    [-1, 2],
    [3, 2],
    [0, 5],
    [0.5, 2],
    [0, 1.5],
  ] as const) {
    await expect(readRange(source, range[0], range[1])).rejects.toMatchObject({
      tag: "source/range",
      details: { file: "f", field: "range", value: range, limit: 4 },
    });
  }
  await expect(readRange(source, 2, 2)).resolves.toHaveLength(0);
  const huge = { name: "f", byteLength: 2 ** 40, slice: async () => bytes };
  const short = { file: "f", field: "range", value: 4, limit: 2 ** 32 - 1 };
  await expect(readRange(huge, 1, 2 ** 32)).rejects.toMatchObject({ tag: "source/short", details: short });
  const long = { file: "f", field: "range", value: 2 ** 32, limit: 2 ** 32 - 1 };
  await expect(readRange(huge, 7, 7 + 2 ** 32)).rejects.toMatchObject({ tag: "source/range", details: long });
});

test("an error of a source stays what it is; any other says which bytes", async () => {
  const failing = (cause: Error) => ({ name: "f", byteLength: 9, slice: () => Promise.reject(cause) });
  const own = new IsqError("source/changed", "it changed", { file: "f" });
  await expect(readRange(failing(own), 2, 5)).rejects.toBe(own);
  const cause = new Error("cable cut");
  await expect(readRange(failing(cause), 2, 5)).rejects.toMatchObject({
    tag: "source/read",
    details: { file: "f", field: "range", value: [2, 5] },
    cause,
  });
  await expect(readAll(failing(cause), 9)).rejects.toMatchObject({ details: { value: [0, 9] } });
});
