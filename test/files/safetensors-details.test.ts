/** safetensors files exactly at caps, quantized tensors of every kind, checkpoints, and what errors say beside their tags. */

import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { fromFiles } from "../../src/files/directory.js";
import { layoutSafetensors, openSafetensors, writeSafetensors } from "../../src/files/safetensors.js";
import type { SafetensorsEntry } from "../../src/files/safetensors-header.js";
import { fromBytes } from "../../src/files/source.js";
import type { Limits } from "../../src/limits.js";

const isTag = (tag: string, details: object) => expect.objectContaining({ tag, details });
const has = (details: object) => expect.objectContaining(details);
const u8 = (name: string, length: number, fill = 1) => ({
  name,
  dtype: "U8",
  shape: [length],
  data: new Uint8Array(length).fill(fill),
});
const f32 = (name: string, values: readonly number[]) => ({
  name,
  dtype: "F32",
  shape: [values.length],
  data: new Uint8Array(Float32Array.from(values).buffer),
});
const blob = (bytes: Uint8Array) => new Blob([bytes as BlobPart]);

/** A file of a header in words, and data. */
function fileOf(header: string, dataBytes = 0): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}
const entry = (shape: unknown, offsets: unknown, dtype: unknown = "U8") =>
  JSON.stringify({ dtype, shape, data_offsets: offsets });

describe("a header", () => {
  const openHeader = (header: string, dataBytes = 0, limits: Partial<Limits> = {}) =>
    openSafetensors(fromBytes(fileOf(header, dataBytes), "f"), { limits });

  test("exactly at its caps", async () => {
    const header = `{"${"a".repeat(10)}":${entry([1, 1, 1, 2], [0, 2])}}`;
    const good = {
      tensorNameLength: 10,
      tensorRank: 4,
      safetensorsHeaderBytes: header.length,
      jsonEntries: 3,
    };
    const opened = await openHeader(header, 2, good);
    expect(opened.tensors.get("a".repeat(10))).toEqual({
      name: "a".repeat(10),
      dtype: "U8",
      shape: [1, 1, 1, 2],
      byteOffset: 8 + header.length,
      byteLength: 2,
    });
    const refused: readonly [Partial<Limits>, string, object][] = [
      [{ tensorNameLength: 9 }, "safetensors/limit", { field: "name", value: 10, limit: 9 }],
      [{ tensorRank: 3 }, "safetensors/shape", { field: "shape", limit: 3 }],
      [
        { safetensorsHeaderBytes: header.length - 1 },
        "safetensors/header-length",
        { value: header.length, limit: header.length - 1 },
      ],
      [{ jsonEntries: 2 }, "safetensors/limit", { field: "header" }],
      [{ safetensorsHeaderDepth: 2 }, "safetensors/limit", { field: "header" }],
    ];
    for (const [limits, tag, details] of refused) {
      await expect(openHeader(header, 2, { ...good, ...limits })).rejects.toEqual(
        isTag(tag, has({ file: "f", ...details })),
      );
    }
  });

  test.each<[string, number, string, object]>([
    [`{"a":${entry([2], [0, 1])}}`, 1, "safetensors/size", { tensor: "a", value: 1, limit: 2 }],
    [`{"a":${entry([1], [0, 1], "F4")}}`, 1, "safetensors/size", { tensor: "a", value: 1, limit: null }],
    [`{"a":${entry([2 ** 27, 2 ** 27], [0, 1])}}`, 1, "safetensors/size", { value: 1, limit: null }],
    [`{"a":${entry([1], [1, 0])}}`, 1, "safetensors/offsets", { tensor: "a", value: [1, 0] }],
    [`{"a":${entry([1], [0])}}`, 1, "safetensors/offsets", { tensor: "a", value: [0] }],
    [`{"a":${entry([1], [0, 1, 2])}}`, 1, "safetensors/offsets", { tensor: "a", field: "data_offsets" }],
    [`{"a":${entry([1], "x")}}`, 1, "safetensors/offsets", { tensor: "a" }],
    [`{"a":${entry("x", [0, 1])}}`, 1, "safetensors/shape", { tensor: "a", field: "shape", limit: 8 }],
    [`{"a":${entry([1.5], [0, 1])}}`, 1, "safetensors/shape", { tensor: "a" }],
    [`{"a":${entry([1], [0, 1], 7)}}`, 1, "safetensors/dtype", { tensor: "a", value: "number" }],
    [`{"a":${entry([1], [0, 1], "toString")}}`, 1, "safetensors/dtype", { value: "toString" }],
    [`{"a":{"shape":[1],"data_offsets":[0,1]}}`, 1, "safetensors/dtype", { value: undefined }],
    [`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1, "safetensors/shape", { tensor: "a" }],
    [`{"a":{"dtype":"U8","shape":[1]}}`, 1, "safetensors/offsets", { tensor: "a" }],
    [`{"a":${entry([1], [1, 2])}}`, 2, "safetensors/offsets", { tensor: "a", value: 1, limit: 0 }],
    [
      `{"a":${entry([2], [0, 2])},"b":${entry([2], [1, 3])}}`,
      3,
      "safetensors/offsets",
      { tensor: "b", value: 1, limit: 2 },
    ],
    [`{"a":${entry([2], [0, 2])}}`, 3, "safetensors/offsets", { field: "data_offsets", value: 1, limit: 0 }],
    [
      `{"__metadata__":[]}`,
      0,
      "safetensors/metadata",
      { field: "__metadata__", value: "array", limit: "object" },
    ],
    [
      `{"__metadata__":{"a":1}}`,
      0,
      "safetensors/metadata",
      { field: "__metadata__.a", value: "number", limit: "string" },
    ],
    ["{} x", 0, "safetensors/header-json", { field: "header", characterOffset: 3 }],
    [`{"a":[]}`, 0, "safetensors/header-json", { tensor: "a", value: "array", limit: "object" }],
  ])("%s with %i bytes: %s", async (header, dataBytes, tag, details) => {
    await expect(openHeader(header, dataBytes)).rejects.toEqual(isTag(tag, has({ file: "f", ...details })));
  });

  test("data that ends behind the file", async () => {
    const header = `{"a":${entry([3], [0, 3])}}`;
    const details = {
      tensor: "a",
      field: "data_offsets",
      value: header.length + 11,
      limit: header.length + 10,
    };
    await expect(openHeader(header, 2)).rejects.toEqual(
      isTag("safetensors/truncated", { file: "f", ...details }),
    );
  });

  test("tensors come in the order of their data, those without any first; unknown fields are passed over", async () => {
    const b = `"b":{"x":[{}],"dtype":"U8","shape":[1],"data_offsets":[0,1]}`;
    const opened = await openHeader(`{"c":${entry([1], [1, 2])},${b},"a":${entry([0], [1, 1])}}`, 2);
    expect([...opened.tensors.keys()]).toEqual(["b", "a", "c"]);
    await expect(opened.readRange("b", 0, 2)).rejects.toEqual(
      isTag("source/range", { file: "f", tensor: "b", field: "range", value: [0, 2], limit: 1 }),
    );
    await expect(opened.read("d")).rejects.toEqual(isTag("tensor/missing", { file: "f", tensor: "d" }));
  });
});

describe("the writer", () => {
  const good = { name: "a", dtype: "U8", shape: [1] };
  test.each<[string, object, object]>([
    ["safetensors/duplicate-key", {}, { tensor: "a", field: "name", value: "a" }],
    ["safetensors/dtype", { name: "b", dtype: "U9" }, { tensor: "b", field: "dtype", value: "U9" }],
    [
      "safetensors/shape",
      { name: "b", shape: [0.5] },
      { tensor: "b", field: "shape", value: [0.5], limit: 8 },
    ],
    ["safetensors/shape", { name: "b", shape: Array(9).fill(1) }, { tensor: "b", limit: 8 }],
    ["safetensors/shape", { name: "b", shape: [1, -1] }, { value: [1, -1] }],
    ["safetensors/size", { name: "b", dtype: "F4" }, { tensor: "b", field: "shape", value: [1] }],
    ["safetensors/header-json", { name: "\udfff" }, { field: "header", value: "\udfff" }],
  ])("%s %j", (tag, changes, details) => {
    expect(() => layoutSafetensors([good, { ...good, ...changes }])).toThrow(isTag(tag, has(details)));
  });

  test("data of another length", () => {
    const details = { tensor: "a", field: "data", value: 2, limit: 1 };
    expect(() => writeSafetensors([{ ...good, data: new Uint8Array(2) }])).toThrow(
      isTag("safetensors/size", details),
    );
  });

  test("orders by type, then by the bytes of names; keys by theirs", () => {
    const names = ["b", "a", "ab", "a\u{1f600}", "a\uffff", "a\ue000", ""];
    const specs = [...names.map((name) => ({ ...good, name })), { name: "z", dtype: "F32", shape: [1] }];
    const { tensors, header, byteLength } = layoutSafetensors(specs, { b: "2", a: "1" });
    expect(tensors.map(({ name }) => name)).toEqual([
      "z",
      "",
      "a",
      "ab",
      "a\ue000",
      "a\uffff",
      "a\u{1f600}",
      "b",
    ]);
    expect(tensors.map(({ byteOffset }) => byteOffset - header.byteLength)).toEqual([
      0, 4, 5, 6, 7, 8, 9, 10,
    ]);
    expect(byteLength).toBe(header.byteLength + 11);
    expect(header.byteLength % 8).toBe(0);
    expect(new TextDecoder().decode(header.subarray(8))).toMatch(
      /^\{"__metadata__":\{"a":"1","b":"2"\},"z":/,
    );
    const eight = { name: "b", dtype: "U8", shape: Array(8).fill(1) };
    expect(layoutSafetensors([eight]).tensors[0].byteLength).toBe(1);
  });
});

describe("quantized tensors", () => {
  const quantized = (type: string, shape: unknown, algorithm = "ggml") =>
    JSON.stringify({ type, algorithm, shape });
  const open = (tensors: Parameters<typeof writeSafetensors>[0], metadata: Record<string, string>) =>
    openCheckpoint(fromFiles([["model.safetensors", blob(writeSafetensors(tensors, metadata))]], "d"));

  test("of blocks, groups and whole tensors, with what belongs to them", async () => {
    const hqq = { type: "HQQ8", algorithm: "hqq", shape: [2, 64] };
    const fp8 = { type: "FP8", algorithm: "mistralrs", shape: [2, 3] };
    const checkpoint = await open(
      [
        u8("blocks", 36),
        u8("groups", 128),
        f32("groups.scales", [1, 2]),
        f32("groups.zeros", [3, 4]),
        u8("whole", 6),
        f32("whole.scales", [5, 6]),
      ],
      {
        "isq.tensor.blocks": quantized("Q4_0", [2, 32]),
        "isq.tensor.groups": JSON.stringify(hqq),
        "isq.tensor.whole": JSON.stringify(fp8),
        "isq.other": "{",
      },
    );
    expect(checkpoint.tensors.get("blocks")).toMatchObject({
      dtype: "Q4_0",
      shape: [2, 32],
      algorithm: "ggml",
    });
    expect(checkpoint.tensors.get("groups")).toMatchObject({
      dtype: "HQQ8",
      shape: [2, 64],
      algorithm: "hqq",
    });
    expect(checkpoint.tensors.get("whole")).toMatchObject({ dtype: "FP8", shape: [2, 3] });
    expect(await checkpoint.readSides?.("blocks")).toEqual({});
    expect(await checkpoint.readSides?.("groups")).toEqual({
      scales: Float32Array.of(1, 2),
      zeros: Float32Array.of(3, 4),
    });
    expect(await checkpoint.readSides?.("whole")).toEqual({ quantizeScale: 5, dequantizeScale: 6 });
    await expect(checkpoint.readSides?.("whole.scales")).rejects.toEqual(
      isTag("safetensors/quantized", { file: "d/model.safetensors", tensor: "whole.scales" }),
    );
  });

  const KEY = "isq.tensor.a";
  test.each<[string, string, object]>([
    ["no JSON", "{", { field: KEY, value: "{" }],
    ["text behind", `${quantized("Q4_0", [32])} x`, { field: KEY }],
    ["no type", quantized("Q9", [32]), { field: KEY }],
    ["a type of objects", quantized("toString", [32]), { field: KEY }],
    ["an algorithm of others", quantized("Q4_0", [32], "hqq"), { field: KEY }],
    ["no shape", JSON.stringify({ type: "Q4_0", algorithm: "ggml" }), { field: KEY }],
    ["an empty shape", quantized("Q4_0", []), { field: KEY }],
    ["a shape of nine", quantized("Q4_0", [1, 1, 1, 1, 1, 1, 1, 1, 32]), { field: KEY }],
    ["half a size", quantized("Q4_0", [1.5, 32]), { field: KEY }],
    ["half a block in a row", quantized("Q4_0", [2, 16]), { field: KEY }],
    ["too many values", quantized("Q4_0", [2 ** 16, 2 ** 17]), { field: KEY }],
    ["fewer bytes", quantized("Q4_0", [3, 32]), { field: "a", value: "U8 [36]" }],
    ["more bytes", quantized("Q4_0", [32]), { field: "a", value: "U8 [36]" }],
  ])("%s is refused", async (_what, text, details) => {
    await expect(open([u8("a", 36)], { [KEY]: text })).rejects.toEqual(
      isTag("safetensors/quantized", { value: text, file: "d/model.safetensors", ...details }),
    );
  });

  test("fields that are not known are passed over; a shape of eight", async () => {
    const text = JSON.stringify({ x: [1], ...JSON.parse(quantized("Q4_0", [1, 1, 1, 1, 1, 1, 2, 32])) });
    expect((await open([u8("a", 36)], { [KEY]: text })).tensors.get("a")).toMatchObject({ dtype: "Q4_0" });
  });

  test("sides that are missing, of another type or length", async () => {
    const text = JSON.stringify({ type: "HQQ8", algorithm: "hqq", shape: [2, 64] });
    const scales = f32("a.scales", [1, 2]);
    for (const [sides, value] of [
      [[], "missing"],
      [[scales], "missing"],
      [[scales, f32("a.zeros", [1])], "F32 [1]"],
      [[scales, u8("a.zeros", 2)], "U8 [2]"],
      [[scales, { ...f32("a.zeros", [1, 2]), shape: [1, 2] }], "F32 [1, 2]"],
    ] as const) {
      await expect(open([u8("a", 128), ...sides], { [KEY]: text })).rejects.toEqual(
        isTag("safetensors/quantized", { file: "d/model.safetensors", field: "a", value }),
      );
    }
    await expect(open([f32("b", [1])], { [KEY]: quantized("Q4_0", [32]) })).rejects.toEqual(
      isTag("safetensors/quantized", { file: "d/model.safetensors", field: "a", value: "missing" }),
    );
  });
});

describe("checkpoints", () => {
  const first = blob(writeSafetensors([u8("a", 4, 1)]));
  const second = blob(writeSafetensors([u8("b", 4, 2)]));
  const INDEX = "model.safetensors.index.json";
  const indexOf = (map: object, rest = {}) => new Blob([JSON.stringify({ ...rest, weight_map: map })]);
  const files = (index: Blob | null, more: readonly [string, Blob][] = []) =>
    fromFiles(
      [
        ["1.safetensors", first],
        ["2.safetensors", second],
        ...(index ? [[INDEX, index] as const] : []),
        ...more,
      ],
      "d",
    );
  const both = { a: "1.safetensors", b: "2.safetensors" };

  test("of shards, of one file, of a named one", async () => {
    const sharded = await openCheckpoint(files(indexOf(both, { metadata: { total_size: 8 } })));
    expect(sharded).toMatchObject({ name: `d/${INDEX}`, format: "safetensors" });
    expect(sharded.sources.map(({ name }) => name)).toEqual(["d/1.safetensors", "d/2.safetensors"]);
    expect(await sharded.read("b")).toEqual(new Uint8Array(4).fill(2));
    const { byteOffset } = sharded.tensors.get("b") as SafetensorsEntry;
    expect(sharded.locate("b")).toEqual({ path: "d/2.safetensors", blob: second, byteOffset });
    const missing = isTag("tensor/missing", { file: `d/${INDEX}`, tensor: "c" });
    await expect(sharded.read("c")).rejects.toEqual(missing);
    expect(() => sharded.locate("c")).toThrow(missing);
    await sharded.close();
    const single = await openCheckpoint(files(indexOf(both), [["model.safetensors", first]]));
    expect(single.name).toBe("d/model.safetensors");
    const named = await openCheckpoint(files(indexOf(both)), { file: "2.safetensors" });
    expect([named.name, ...named.tensors.keys()]).toEqual(["d/2.safetensors", "b"]);
    await expect(openCheckpoint(fromFiles([], "d"))).rejects.toEqual(
      isTag("source/open", { file: "d", limit: ["model.safetensors", INDEX] }),
    );
  });

  test.each<[string, Blob, unknown]>([
    ["a shard that is missing", indexOf({ ...both, c: "3.safetensors" }), "3.safetensors"],
    [
      "a tensor in another shard",
      indexOf({ a: "2.safetensors", b: "2.safetensors", c: "1.safetensors" }),
      "a",
    ],
    ["a tensor that no shard has", indexOf({ ...both, c: "2.safetensors" }), "c"],
    ["a tensor that it does not name", indexOf({ b: "2.safetensors", c: "1.safetensors" }), "a"],
    ["a path", indexOf({ a: "x/1.safetensors" }), "x/1.safetensors"],
    ["a file of another kind", indexOf({ a: "1.safetensors.bin" }), "1.safetensors.bin"],
    ["a file that is hidden", indexOf({ a: ".1.safetensors" }), ".1.safetensors"],
    ["no shards", indexOf({}), 0],
    ["no JSON", new Blob(["{"]), null],
    ["text behind", new Blob(['{"weight_map":{"a":"1.safetensors"}} x']), null],
    ["no UTF-8", new Blob([Uint8Array.of(0xff)]), null],
  ])("an index with %s is refused", async (_what, index, value) => {
    await expect(openCheckpoint(files(index))).rejects.toEqual(
      isTag("safetensors/index", { file: `d/${INDEX}`, field: "weight_map", value }),
    );
  });

  test("an index names nothing but plain names, also where there is such a file", async () => {
    for (const name of ["x/1.safetensors", "../1.safetensors", ".1.safetensors", "1.safetensors.bin"]) {
      const opening = openCheckpoint(
        fromFiles(
          [
            [name, first],
            [INDEX, indexOf({ a: name })],
          ],
          "d",
        ),
      );
      await expect(opening, name).rejects.toEqual(
        isTag("safetensors/index", { file: `d/${INDEX}`, field: "weight_map", value: name }),
      );
    }
  });

  test("caps of an index", async () => {
    const open = (limits: Partial<Limits>) => openCheckpoint(files(indexOf(both)), { limits });
    expect((await open({ shardCount: 2, jsonEntries: 3 })).tensors.size).toBe(2);
    await expect(open({ shardCount: 1 })).rejects.toMatchObject({
      tag: "safetensors/index",
      details: { value: 2 },
    });
    await expect(open({ jsonBytes: 10 })).rejects.toMatchObject({
      tag: "source/range",
      details: { limit: 10 },
    });
  });

  test("a tensor in two shards", async () => {
    const twice = fromFiles(
      [
        ["1.safetensors", first],
        ["2.safetensors", first],
        [INDEX, indexOf({ a: "1.safetensors", b: "2.safetensors" })],
      ],
      "d",
    );
    await expect(openCheckpoint(twice)).rejects.toMatchObject({
      tag: "safetensors/index",
      details: { value: "a" },
    });
  });

  test("every file is closed, also when one is refused", async () => {
    let open = 0;
    const counting = (inner: ReturnType<typeof files>) => ({
      ...inner,
      async open(file: string) {
        open++;
        return { ...(await inner.open(file)), close: async () => void open-- };
      },
    });
    const checkpoint = await openCheckpoint(counting(files(indexOf(both))));
    expect(open).toBe(2);
    await checkpoint.close();
    expect(open).toBe(0);
    await expect(
      openCheckpoint(counting(files(indexOf({ ...both, c: "3.safetensors" })))),
    ).rejects.toBeDefined();
    expect(open).toBe(0);
  });
});
