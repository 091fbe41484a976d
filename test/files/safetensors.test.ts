import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { openSafetensors, SAFETENSORS_BITS, writeSafetensors } from "../../src/files/safetensors.js";
import { type ByteSource, fromBytes } from "../../src/files/source.js";
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
  test("truncated at every byte: always refused", async () => {
    for (let length = 0; length < sample.length; length++) {
      expect(await survive(sample.slice(0, length)), String(length)).toBe("refused");
    }
    expect(await survive(sample)).toBe("value");
  });

  test("random bytes changed: a value or a tagged error", async () => {
    const change = fc.tuple(fc.nat(sample.length - 1), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
        const bytes = sample.slice();
        for (const [at, value] of changes) bytes[at] = value;
        await survive(bytes);
      }),
      { numRuns: 3000, seed: 11 },
    );
  });

  test("a million tensors of no bytes open in linear time", async () => {
    const entries = Array.from(
      { length: 1_000_000 },
      (_, i) => `"t${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`,
    );
    const text = new TextEncoder().encode(`{${entries.join(",")}}`);
    const bytes = new Uint8Array(8 + text.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
    bytes.set(text, 8);
    const opened = await openSafetensors(fromBytes(bytes));
    expect(opened.tensors.size).toBe(1_000_000);
  });

  test("a header of megabytes in one string does not overflow anything", async () => {
    const text = new TextEncoder().encode(`{"__metadata__":{"a":"${"x".repeat(20_000_000)}"}}`);
    const bytes = new Uint8Array(8 + text.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
    bytes.set(text, 8);
    const opened = await openSafetensors(fromBytes(bytes));
    expect(opened.metadata.get("a")).toHaveLength(20_000_000);
  });
});

describe("reading and writing", () => {
  test("what is written is read, whatever the names, types and shapes", async () => {
    const dtypes = Object.keys(SAFETENSORS_BITS).filter((dtype) => SAFETENSORS_BITS[dtype] % 8 === 0);
    const tensor = fc
      .record({
        name: fc.oneof(
          fc.string({ unit: "grapheme" }),
          fc.constantFrom("__proto__", "constructor", 'quo"te', "ta\\b"),
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
