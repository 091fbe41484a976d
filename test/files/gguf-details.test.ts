/** GGUF files exactly at caps and one beyond, what the writer's errors say, ranges of tensors, and how shards are cut. */

import { describe, expect, test } from "vitest";
import { fromFiles } from "../../src/files/directory.js";
import { openGguf } from "../../src/files/gguf.js";
import { layoutGgufShards, openGgufFiles } from "../../src/files/gguf-split.js";
import type { GgufArray, GgufMetadata, GgufValue } from "../../src/files/gguf-values.js";
import { layoutGguf, toBytes, writeGguf } from "../../src/files/gguf-write.js";
import { fromBlob, fromBytes } from "../../src/files/source.js";
import { open, writeContent } from "./gguf-support.js";

const none = new Map<string, GgufValue>();
const one = (key: string, value: unknown) => new Map([[key, value as GgufValue]]);
const i8 = (name: string, bytes: number) => ({ name, type: "I8", shape: [bytes] });
const withData = (tensor: ReturnType<typeof i8>, start = 0) => ({
  ...tensor,
  data: Uint8Array.from({ length: tensor.shape[0] }, (_, i) => start + i),
});
const nested = (depth: number): GgufArray =>
  depth === 1
    ? { type: "array", items: "u8", values: new Uint8Array(1) }
    : { type: "array", items: "array", values: [nested(depth - 1)] };
const isTag = (tag: string, details: object) => expect.objectContaining({ tag, details });

describe("what the writer refuses, with its details", () => {
  const REFUSED: readonly [string, object, () => unknown][] = [
    ["gguf/key", { field: "key", value: "" }, () => layoutGguf(one("", { type: "u8", value: 1 }), [])],
    ["gguf/key", { field: "key" }, () => layoutGguf(one("k".repeat(65_536), { type: "u8", value: 1 }), [])],
    [
      "gguf/value",
      { field: "k", value: "256", limit: "u8" },
      () => layoutGguf(one("k", { type: "u8", value: 256 }), []),
    ],
    ["gguf/value", { value: "1" }, () => layoutGguf(one("k", { type: "bool", value: 1 }), [])],
    ["gguf/value", { value: "true" }, () => layoutGguf(one("k", { type: "u8", value: true }), [])],
    ["gguf/value", { value: "x" }, () => layoutGguf(one("k", { type: "f32", value: "x" }), [])],
    ["gguf/value", { limit: "string" }, () => layoutGguf(one("k", { type: "string", value: 7 }), [])],
    [
      "gguf/text",
      { field: "k", value: "\ud800" },
      () => layoutGguf(one("k", { type: "string", value: "\ud800" }), []),
    ],
    [
      "gguf/text",
      { field: "k", value: 7 },
      () => layoutGguf(one("k", { type: "array", items: "string", values: [7] }), []),
    ],
    ["gguf/value-type", { field: "k", value: 5, limit: 4 }, () => layoutGguf(one("k", nested(5)), [])],
    [
      "gguf/count",
      { field: "k", value: 2 ** 24 + 1, limit: 2 ** 24 },
      () => layoutGguf(one("k", { type: "array", items: "u8", values: new Uint8Array(2 ** 24 + 1) }), []),
    ],
    [
      "gguf/alignment",
      { field: "general.alignment", value: "48", limit: 2 ** 20 },
      () => layoutGguf(one("general.alignment", { type: "u32", value: 48 }), []),
    ],
    [
      "gguf/alignment",
      { value: "array" },
      () =>
        layoutGguf(one("general.alignment", { type: "array", items: "u8", values: new Uint8Array(1) }), []),
    ],
    ["gguf/alignment", {}, () => layoutGguf(one("general.alignment", { type: "u32", value: 2 ** 21 }), [])],
    ["gguf/duplicate", { tensor: "a", field: "name" }, () => layoutGguf(none, [i8("a", 1), i8("a", 1)])],
    [
      "gguf/name",
      { tensor: "a".repeat(64), field: "name", value: 64, limit: 63 },
      () => layoutGguf(none, [i8("a".repeat(64), 1)]),
    ],
    [
      "gguf/type",
      { tensor: "a", field: "type", value: "Q4_2" },
      () => layoutGguf(none, [{ name: "a", type: "Q4_2", shape: [32] }]),
    ],
    [
      "gguf/shape",
      { tensor: "a", field: "shape", value: [255], limit: 256 },
      () => layoutGguf(none, [{ name: "a", type: "Q4K", shape: [255] }]),
    ],
    ["gguf/shape", {}, () => layoutGguf(none, [{ name: "a", type: "I8", shape: [2, -1] }])],
    ["gguf/shape", {}, () => layoutGguf(none, [{ name: "a", type: "I8", shape: [0.5, 2] }])],
    ["gguf/shape", {}, () => layoutGguf(none, [{ name: "a", type: "I8", shape: [0, 2 ** 30, 2 ** 30] }])],
    ["gguf/shape", {}, () => layoutGguf(none, [{ name: "a", type: "I8", shape: [1, 1, 1, 1, 1] }])],
    ["gguf/count", { limit: Number.MAX_SAFE_INTEGER }, () => layoutGguf(none, [i8("a", 2 ** 53 - 64)])],
  ];
  test.each(REFUSED)("%s %j", (tag, details, write) => {
    expect(write).toThrow(isTag(tag, expect.objectContaining(details)));
  });

  test("data that is too long, before any more of it is written", async () => {
    const layout = layoutGguf(none, [i8("a", 10)]);
    const written: number[] = [];
    const sink = { write: (_at: number, { byteLength }: Uint8Array) => void written.push(byteLength) };
    const pieces = [new Uint8Array(6), new Uint8Array(5), new Uint8Array(1)];
    const details = { tensor: "a", field: "data", value: 11, limit: 10 };
    await expect(writeGguf(layout, () => pieces, sink)).rejects.toEqual(isTag("gguf/size", details));
    expect(written).toEqual([layout.header.byteLength, 6]);
    const short = { tensor: "a", field: "data", value: 6, limit: 10 };
    await expect(writeGguf(layout, () => pieces.slice(0, 1), sink)).rejects.toEqual(
      isTag("gguf/size", short),
    );
  });
});

describe("exactly at a cap", () => {
  test("names, keys, ranks, depths and dimensions", async () => {
    const name = "a".repeat(63);
    const metadata = new Map<string, GgufValue>([
      ["k".repeat(65_535), { type: "u32", value: 2 ** 32 - 1 }],
      ["deep", nested(4)],
      ["yes", { type: "bool", value: true }],
      ["no", { type: "bool", value: false }],
      ["large", { type: "u64", value: 2n ** 64n - 1n }],
      ["small", { type: "i64", value: -(2n ** 63n) }],
      ["general.alignment", { type: "u32", value: 2 ** 20 }],
    ]);
    const tensors = [{ name, type: "I8", shape: [1, 1, 1, 2], data: Uint8Array.of(1, 2) }];
    const file = await open(await writeContent({ metadata, tensors }));
    expect([...file.metadata]).toEqual([...metadata]);
    expect(await file.read(name)).toEqual(Uint8Array.of(1, 2));
    expect(layoutGguf(none, [{ name: "a", type: "I8", shape: [0, 2 ** 53 - 1] }]).tensors[0].byteLength).toBe(
      0,
    );
  });

  test("an array of bools has noughts and ones", async () => {
    const values = Uint8Array.of(0, 1, 2, 255);
    const bytes = await writeContent({
      metadata: one("k", { type: "array", items: "bool", values }),
      tensors: [],
    });
    const file = await open(bytes);
    expect(file.metadata.get("k")).toMatchObject({ values: Uint8Array.of(0, 1, 1, 1) });
    expect(file.warnings).toEqual([]);
  });

  test("a header that is longer than its cap", async () => {
    const metadata = one("k", { type: "string", value: "x".repeat(100_000) });
    const bytes = await writeContent({ metadata, tensors: [] });
    const source = fromBytes(bytes, "f");
    const details = { file: "f", field: "header", limit: 70_000 };
    await expect(openGguf(source, { limits: { ggufHeaderBytes: 70_000 } })).rejects.toEqual(
      isTag("gguf/count", details),
    );
    expect((await openGguf(source, { limits: { ggufHeaderBytes: bytes.byteLength } })).metadata.size).toBe(1);
  });
});

test("a tensor is read by ranges, and not beyond its ends", async () => {
  const tensors = [withData(i8("a", 40)), withData(i8("b", 10), 100)];
  const file = await open(await writeContent({ metadata: none, tensors }), "f");
  expect(await file.readRange("b", 0, 10)).toEqual(tensors[1].data);
  expect(await file.readRange("b", 3, 5)).toEqual(Uint8Array.of(103, 104));
  expect(await file.readRange("b", 0, 0)).toHaveLength(0);
  expect(await file.readRange("b", 10, 10)).toHaveLength(0);
  for (const range of [
    [-1, 5],
    [5, 4],
    [0, 11],
    [Number.NaN, 5],
  ]) {
    const details = { file: "f", tensor: "b", field: "range", value: range, limit: 10 };
    await expect(file.readRange("b", range[0], range[1])).rejects.toEqual(isTag("source/range", details));
  }
  const missing = isTag("tensor/missing", { file: "f", tensor: "c" });
  await expect(file.read("c")).rejects.toEqual(missing);
  await expect(file.readRange("c", 0, 1)).rejects.toEqual(missing);
});

describe("shards", () => {
  const sizesOf = (tensors: readonly ReturnType<typeof i8>[], most: number, metadata: GgufMetadata = none) =>
    layoutGgufShards("m", metadata, tensors, most).map(({ tensors }) => [...tensors]);

  test("are full before the next begins; data counts with its padding, but for the last", () => {
    const four = ["a", "b", "c", "d"].map((name) => i8(name, 32));
    expect(sizesOf(four, 64)).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(sizesOf(four, 63)).toEqual([[0], [1], [2], [3]]);
    expect(sizesOf(four, 95)).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(sizesOf([i8("a", 1), i8("b", 1), i8("c", 1)], 33)).toEqual([[0, 1], [2]]);
    expect(sizesOf([i8("a", 100), i8("b", 1)], 10)).toEqual([[0], [1]]);
    expect(sizesOf([i8("a", 0), i8("b", 100)], 10)).toEqual([[0, 1]]);
    expect(sizesOf([], 10)).toEqual([[]]);
  });

  test("beyond the first have the alignment and no other keys", () => {
    const metadata = new Map<string, GgufValue>([
      ["general.architecture", { type: "string", value: "llama" }],
      ["general.alignment", { type: "u32", value: 64 }],
    ]);
    const [, second] = layoutGgufShards("m", metadata, [i8("a", 1), i8("b", 1)], 1);
    const header = new TextDecoder("latin1").decode(second.layout.header);
    expect(header).toContain("general.alignment");
    expect(header).not.toContain("general.architecture");
    expect(second.layout.header.byteLength % 64).toBe(0);
  });

  test("as many as names can count, and no more", () => {
    const tensors = Array.from({ length: 10_001 }, (_, i) => i8(`t${i}`, 1));
    expect(layoutGgufShards("m", none, tensors.slice(1), 1)).toHaveLength(10_000);
    const details = { file: "m", field: "maxDataBytes", value: 1 };
    expect(() => layoutGgufShards("m", none, tensors, 1)).toThrow(isTag("gguf/split", details));
  });

  async function writeShards(metadata: GgufMetadata = none): Promise<Map<string, Blob>> {
    const tensors = [withData(i8("a", 8)), withData(i8("b", 8), 50)];
    const files = new Map<string, Blob>();
    for (const { file, layout, tensors: indices } of layoutGgufShards("m", metadata, tensors, 1)) {
      const sink = toBytes(layout.byteLength);
      await writeGguf(layout, (_, index) => tensors[indices[index]].data, sink);
      files.set(file, new Blob([sink.bytes as BlobPart]));
    }
    return files;
  }

  test("are one model with the sources, ranges and warnings of all", async () => {
    const files = await writeShards();
    const last = "m-00002-of-00002.gguf";
    files.set(last, new Blob([files.get(last)!, Uint8Array.of(1, 2, 3)]));
    const model = await openGgufFiles(fromFiles(files, "d"), last);
    expect(model.name).toBe(`d/${last}`);
    expect(await model.readRange("b", 2, 4)).toEqual(Uint8Array.of(52, 53));
    expect(model.sources.map(({ name }) => name)).toEqual(["d/m-00001-of-00002.gguf", `d/${last}`]);
    expect(model.warnings).toEqual([expect.stringMatching(/^3 bytes/)]);
    expect(model.fileOf("b")).toEqual({ path: `d/${last}`, blob: files.get(last) });
    await model.close();
  });

  test("that are not there, and numbers that no shard has", async () => {
    const files = await writeShards();
    const opening = (file: string, shardCount?: number) =>
      openGgufFiles(fromFiles(files, "d"), file, shardCount ? { limits: { shardCount } } : {});
    const refusal = (file: string) => isTag("gguf/split", { file: `d/${file}`, field: "file", value: file });
    for (const file of ["m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-00001-of-10001.gguf"]) {
      await expect(opening(file)).rejects.toEqual(refusal(file));
    }
    await expect(opening("m-00001-of-00002.gguf", 1)).rejects.toEqual(refusal("m-00001-of-00002.gguf"));
    await (await opening("m-00001-of-00002.gguf", 2)).close();
    await expect(opening("other.gguf")).rejects.toMatchObject({ tag: "source/open" });
    files.delete("m-00002-of-00002.gguf");
    await expect(opening("m-00001-of-00002.gguf")).rejects.toMatchObject({
      tag: "gguf/split",
      details: { field: "file", value: "m-00002-of-00002.gguf" },
    });
  });

  test("a single file needs no keys of shards, but they must be right", async () => {
    const fileOf = async (metadata: GgufMetadata) => {
      const bytes = await writeContent({ metadata, tensors: [withData(i8("a", 8))] });
      return {
        ...fromFiles([]),
        name: "d",
        open: async () => fromBlob(new Blob([bytes as BlobPart]), "d/f"),
      };
    };
    expect((await openGgufFiles(await fileOf(none), "f")).tensors.size).toBe(1);
    const array: GgufValue = { type: "array", items: "u8", values: Uint8Array.of(1) };
    for (const value of [{ type: "u16", value: 2 }, array] as const) {
      const shown = value.type === "array" ? undefined : "2";
      await expect(openGgufFiles(await fileOf(one("split.count", value)), "f")).rejects.toEqual(
        isTag("gguf/split", { file: "d/f", field: "split.count", value: shown }),
      );
    }
  });
});
