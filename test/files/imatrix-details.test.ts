/** Importance matrices in the forms of means: read as written, exactly at caps, and what errors say. */

import { expect, test } from "vitest";
import { openImatrix } from "../../src/files/imatrix.js";
import type { ImatrixEntry } from "../../src/files/imatrix-entry.js";
import { writeCimatrix, writeLegacyImatrix } from "../../src/files/imatrix-write.js";
import { fromBytes } from "../../src/files/source.js";

const open = (bytes: Uint8Array) => openImatrix(fromBytes(bytes, "f"));
const entry: ImatrixEntry = { sums: Float32Array.of(2, 4, 9, 0), counts: [2, 0] };
const means = { sums: Float32Array.of(1, 2, 0, 0), counts: [1] };
const one = (name: string, value = entry) => new Map([[name, value]]);
const isTag = (tag: string, details: object) => expect.objectContaining({ tag, details });

test("llama.cpp's older form: means, chunks and the names of the texts", async () => {
  const entries = new Map([
    ["a", entry],
    ["b", { sums: Float32Array.of(7), counts: [1] }],
  ]);
  const bytes = writeLegacyImatrix({ entries, datasets: ["x", "y"], chunks: 5 });
  const [a, b] = [means, { sums: Float32Array.of(7), counts: [1] }];
  expect(await open(bytes)).toEqual({
    format: "legacy",
    entries: new Map([
      ["a", a],
      ["b", b],
    ]),
    datasets: ["x, y"],
    chunks: 5,
  });
  expect(await open(writeLegacyImatrix({ entries: one("a"), datasets: [] }))).toMatchObject({
    datasets: [],
    chunks: 0,
  });
  // Older files end behind the entries, or behind the chunks.
  expect(await open(bytes.subarray(0, bytes.length - 12))).toMatchObject({ datasets: [] });
  expect(await open(bytes.subarray(0, bytes.length - 8))).toMatchObject({ datasets: [], chunks: 5 });
});

test(".cimatrix has nothing but means", async () => {
  const read = await open(writeCimatrix(one("a")));
  expect(read).toEqual({ format: "cimatrix", entries: one("a", means), datasets: [] });
});

test("names exactly at the cap", async () => {
  const name = "n".repeat(65_535);
  expect([...(await open(writeCimatrix(one(name)))).entries.keys()]).toEqual([name]);
});

test("what cannot be written", () => {
  const count = { file: "the .cimatrix file", field: "entries", value: 0, limit: 1_000_000 };
  expect(() => writeCimatrix(new Map())).toThrow(isTag("imatrix/count", count));
  const file = "the .imatrix file";
  expect(() => writeLegacyImatrix({ entries: new Map(), datasets: [] })).toThrow(
    isTag("imatrix/count", { ...count, file }),
  );
  for (const name of ["", "a\n", "\ud800", "n".repeat(65_536), "é".repeat(32_768)]) {
    const details = { field: "name", value: name };
    expect(() => writeCimatrix(one(name))).toThrow(isTag("imatrix/name", { ...details, file: count.file }));
    expect(() => writeLegacyImatrix({ entries: one(name), datasets: [] })).toThrow(
      isTag("imatrix/name", { ...details, file }),
    );
  }
  const empty = one("a", { sums: new Float32Array(0), counts: [1] });
  expect(() => writeCimatrix(empty)).toThrow(
    isTag("imatrix/name", { file: count.file, field: "name", value: "a" }),
  );
});
