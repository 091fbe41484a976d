import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { fromFiles } from "../../src/files/directory.js";
import {
  openSafetensors,
  SAFETENSORS_BITS,
  type Safetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../src/files/safetensors.js";
import { type ByteSource, fromBytes } from "../../src/files/source.js";
import type { Limits } from "../../src/limits.js";
import { openDirectory } from "../../src/node/directory.js";
import { openFile } from "../../src/node/file-source.js";

const FOLDER = "test/malformed/safetensors";
const expected: Record<string, string> = JSON.parse(readFileSync(`${FOLDER}/expected.json`, "utf8"));
const file = (name: string) => new Uint8Array(readFileSync(`${FOLDER}/${name}`));

describe("the malformed catalogue", () => {
  test.each(Object.entries(expected).filter(([name]) => name.endsWith(".safetensors")))(
    "%s: %s",
    async (name, tag) => {
      const opening = openSafetensors(fromBytes(file(name), name));
      if (tag === "ok") await expect(opening).resolves.toBeDefined();
      else await expect(opening).rejects.toMatchObject({ name: "IsqError", tag, details: { file: name } });
    },
  );

  test.each(Object.entries(expected).filter(([name]) => name.endsWith("/")))("%s: %s", async (name, tag) => {
    const directory = await openDirectory(`${FOLDER}/${name}`);
    const opening = openCheckpoint(directory);
    if (tag !== "ok") {
      const index = `${directory.name}/model.safetensors.index.json`;
      await expect(opening).rejects.toMatchObject({ name: "IsqError", tag, details: { file: index } });
      return;
    }
    const checkpoint = await opening;
    expect([...checkpoint.tensors.keys()].sort()).toEqual(["a", "b"]);
    await checkpoint.close();
  });

  test("has a file of each kind", () => {
    const kinds = new Set(Object.keys(expected).map((name) => name.slice(0, 2)));
    expect([...kinds].sort()).toEqual(["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"]);
  });
});

/** Opens and reads everything; anything but a value or an IsqError is a defect. */
async function survive(bytes: Uint8Array): Promise<"value" | "refused"> {
  try {
    const opened = await openSafetensors(fromBytes(bytes));
    for (const name of opened.tensors.keys()) await opened.read(name);
    return "value";
  } catch (error) {
    if (isIsqError(error)) return "refused";
    throw error;
  }
}

const sample = writeSafetensors(
  [
    { name: "b", dtype: "F16", shape: [2, 3], data: new Uint8Array(12) },
    { name: "a.weight", dtype: "F32", shape: [2], data: new Uint8Array(8).fill(7) },
    { name: "empty", dtype: "U8", shape: [0], data: new Uint8Array(0) },
  ],
  { format: "pt" },
);

describe("hostile bytes", () => {
  const valid = Object.keys(expected).filter((name) => expected[name] === "ok" && !name.endsWith("/"));
  const samples: [string, Uint8Array][] = [["a sample", sample]];
  for (const name of valid) samples.push([name, file(name)]);
  samples.push([
    "the reference writer's",
    new Uint8Array(readFileSync("test/files/reference-writer.safetensors")),
  ]);

  test.each(samples)("%s, truncated at every byte: always refused", async (_name, bytes) => {
    for (let length = 0; length < bytes.length; length++) {
      expect(await survive(bytes.slice(0, length)), String(length)).toBe("refused");
    }
    expect(await survive(bytes)).toBe("value");
  });

  test.each(samples)("%s, random bytes changed: a value or a tagged error", async (_name, original) => {
    const change = fc.tuple(fc.nat(original.length - 1), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
        const bytes = original.slice();
        for (const [at, value] of changes) bytes[at] = value;
        await survive(bytes);
      }),
      { numRuns: 1000, seed: 11 },
    );
  });

  test("a million tensors of no bytes open in linear time", async () => {
    const entries = Array.from(
      { length: 1_000_000 },
      (_, i) => `"t${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`,
    );
    const opened = await openHeader(`{${entries.join(",")}}`);
    expect(opened.tensors.size).toBe(1_000_000);
  });

  test("a header of megabytes in one string does not overflow anything", async () => {
    const opened = await openHeader(`{"__metadata__":{"a":"${"x".repeat(20_000_000)}"}}`);
    expect(opened.metadata.get("a")).toHaveLength(20_000_000);
  });

  // Each would take gigabytes if the header were built before it is checked.
  test.each([
    ["arrays as a tensor", "safetensors/header-json", '{"a":[', "[],", "[]]}"],
    ["a shape", "safetensors/shape", '{"a":{"shape":[', "1,", "1]}}"],
    ["offsets", "safetensors/offsets", '{"a":{"data_offsets":[', "0,", "0]}}"],
    ["one number", "safetensors/shape", '{"a":{"shape":[', "1", "]}}"],
    ["one name", "safetensors/limit", '{"', "x", '":{}}'],
    ["one dtype", "safetensors/dtype", '{"a":{"dtype":"', "x", '"}}'],
    ["an unknown field", "safetensors/dtype", '{"a":{"x":[', "0,", "0]}}"],
    ["depth", "safetensors/limit", "{", '"a":{', "}"],
    ["white space", "safetensors/header-json", "{", " ", "x"],
  ])("99 MB of %s: %s, and no more memory than the header", async (_what, tag, start, part, end) => {
    const count = Math.floor((99_000_000 - start.length - end.length) / part.length);
    const before = process.memoryUsage().heapUsed;
    const opening = openHeader(start + part.repeat(count) + end);
    const error = await opening.then(
      () => null,
      (refused: unknown) => refused,
    );
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(400_000_000);
    expect(error).toMatchObject({ name: "IsqError", tag });
    expect((error as Error).message.length).toBeLessThan(300);
  });

  test("caps can be set, and are named when they are met", async () => {
    const open = (limits: Partial<Limits>) => openSafetensors(fromBytes(sample), { limits });
    await expect(open({ jsonEntries: 4 })).resolves.toBeDefined();
    await expect(open({ jsonEntries: 3 })).rejects.toMatchObject({ tag: "safetensors/limit" });
    await expect(open({ tensorRank: 1 })).rejects.toMatchObject({
      tag: "safetensors/shape",
      details: { limit: 1 },
    });
    await expect(open({ tensorNameLength: 7 })).rejects.toMatchObject({ details: { value: 8, limit: 7 } });
    await expect(open({ safetensorsHeaderBytes: 100 })).rejects.toMatchObject({
      tag: "safetensors/header-length",
      details: { limit: 100 },
    });
    await expect(
      openCheckpoint(await openDirectory(`${FOLDER}/s9-good`), { limits: { shardCount: 1 } }),
    ).rejects.toMatchObject({ tag: "safetensors/index", details: { value: 2 } });
  });

  test("control characters of a name do not reach the terminal", async () => {
    const name = "\u001b[31m\n\u0085\u202e";
    const entry = { dtype: "none", shape: [], data_offsets: [0, 0] };
    const refused = openHeader(JSON.stringify({ [name]: entry }));
    await expect(refused).rejects.toMatchObject({ details: { tensor: name } });
    await expect(refused).rejects.toThrow('"\\u001b[31m\\n\\u0085\\u202e"');
  });
});

/** Opens a file that is a header and nothing else. */
function openHeader(header: string): Promise<Safetensors> {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return openSafetensors(fromBytes(bytes));
}

describe("reading and writing", () => {
  test("what is written is read, whatever the names, types and shapes", async () => {
    const dtypes = Object.keys(SAFETENSORS_BITS).filter((dtype) => SAFETENSORS_BITS[dtype] % 8 === 0);
    const tensor = fc
      .record({
        name: fc.oneof(
          fc.string({ unit: "grapheme" }),
          fc.constantFrom("__proto__", "constructor", "7", 'quo"te', "ta\\b", "\n", "\ufffd", "😀"),
        ),
        dtype: fc.constantFrom(...dtypes),
        shape: fc.array(fc.nat(4), { maxLength: 3 }),
        fill: fc.nat(255),
      })
      .filter(({ name }) => name !== "__metadata__");
    const list = fc.uniqueArray(tensor, { selector: (t) => t.name, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(list, async (tensors) => {
        const written = tensors.map(({ name, dtype, shape, fill }) => {
          const count = shape.reduce((a, b) => a * b, 1);
          return {
            name,
            dtype,
            shape,
            data: new Uint8Array((count * SAFETENSORS_BITS[dtype]) / 8).fill(fill),
          };
        });
        const bytes = writeSafetensors(written, { note: "é" });
        expect(writeSafetensors([...written].reverse(), { note: "é" })).toEqual(bytes);
        const opened = await openSafetensors(fromBytes(bytes));
        expect(opened.metadata).toEqual(new Map([["note", "é"]]));
        expect(opened.tensors.size).toBe(written.length);
        for (const { name, dtype, shape, data } of written) {
          expect(opened.tensors.get(name)).toMatchObject({ dtype, shape, byteLength: data.length });
          expect(await opened.read(name)).toEqual(data);
        }
      }),
      { numRuns: 200, seed: 12 },
    );
  });

  test("the reference writer's file is read, and written again byte by byte", async () => {
    // Written by safetensors 0.8.0 from tensors in another order.
    const bytes = new Uint8Array(readFileSync("test/files/reference-writer.safetensors"));
    const opened = await openSafetensors(fromBytes(bytes));
    const tensors: SafetensorsTensor[] = [];
    for (const { name, dtype, shape } of opened.tensors.values()) {
      tensors.unshift({ name, dtype, shape, data: await opened.read(name) });
    }
    expect(tensors).toHaveLength(17);
    expect(writeSafetensors(tensors, { format: "pt" })).toEqual(bytes);
  });

  test("no tensors make a file too", async () => {
    const bytes = writeSafetensors([]);
    expect(new TextDecoder().decode(bytes.subarray(8))).toBe("{}      ");
    expect((await openSafetensors(fromBytes(bytes))).tensors.size).toBe(0);
  });

  test("what could not be read back is not written", () => {
    const good = { name: "a", dtype: "U8", shape: [1], data: new Uint8Array(1) };
    const write = (changes: object, metadata = {}) =>
      writeSafetensors([good, { ...good, ...changes }], metadata);
    const refusal = (tag: string) => expect.objectContaining({ name: "IsqError", tag });
    expect(() => write({})).toThrow(refusal("safetensors/duplicate-key"));
    expect(() => write({ dtype: "U32", data: new Uint8Array(4) })).toThrow(
      refusal("safetensors/duplicate-key"),
    );
    expect(() => write({ name: "__metadata__" })).toThrow(refusal("safetensors/duplicate-key"));
    expect(() => write({ name: "b", dtype: "toString" })).toThrow(refusal("safetensors/dtype"));
    expect(() => write({ name: "b", shape: [-1] })).toThrow(refusal("safetensors/shape"));
    expect(() => write({ name: "b", shape: [2] })).toThrow(refusal("safetensors/size"));
    expect(() => write({ name: "b", dtype: "F4" })).toThrow(refusal("safetensors/size"));
    expect(() => write({ name: "\ud800" })).toThrow(refusal("safetensors/header-json"));
    expect(() => write({ name: "b" }, { a: 1 })).toThrow(refusal("safetensors/header-json"));
  });

  test("a tensor is read by ranges, and not beyond its ends", async () => {
    const data = Uint8Array.from({ length: 12 }, (_, i) => i);
    const around = { dtype: "U8", shape: [4], data: new Uint8Array(4).fill(99) };
    const bytes = writeSafetensors([
      { name: "a", ...around },
      { name: "b", dtype: "U8", shape: [12], data },
      { name: "c", ...around },
    ]);
    const opened = await openSafetensors(fromBytes(bytes));
    const checkpoint = await openCheckpoint(
      fromFiles([["model.safetensors", new Blob([bytes as BlobPart])]]),
    );
    for (const file of [opened, checkpoint]) {
      expect(await file.readRange("b", 3, 7)).toEqual(data.slice(3, 7));
      expect(await file.readRange("b", 0, 12)).toEqual(await file.read("b"));
      expect(await file.readRange("b", 12, 12)).toHaveLength(0);
      for (const [start, end] of [
        [-1, 2],
        [2, 1],
        [0, 13],
        [12, 13],
        [Number.NaN, 1],
        [0.5, 1],
      ]) {
        await expect(file.readRange("b", start, end)).rejects.toMatchObject({ tag: "source/range" });
      }
      await expect(file.readRange("d", 0, 0)).rejects.toMatchObject({ tag: "tensor/missing" });
      await expect(file.read("d")).rejects.toMatchObject({ tag: "tensor/missing", details: { tensor: "d" } });
    }
  });

  test("opening reads the header and nothing else", async () => {
    const inner = await openFile("models/tiny-mistral/model.safetensors");
    const ranges: [number, number][] = [];
    const counting: ByteSource = {
      ...inner,
      slice(start, end) {
        ranges.push([start, end]);
        return inner.slice(start, end);
      },
    };
    const opened = await openSafetensors(counting);
    expect(opened.tensors.size).toBe(57);
    const headerBytes = Math.min(...[...opened.tensors.values()].map((entry) => entry.byteOffset));
    expect(ranges).toEqual([
      [0, 8],
      [8, headerBytes],
    ]);
    const norm = await opened.read("model.norm.weight");
    expect(norm).toHaveLength(512);
    expect(ranges).toHaveLength(3);
    await inner.close?.();
  });
});
