import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ggmlByteLength, ggmlTypeNamed, ggmlTypeOf } from "../../src/files/ggml-types.js";
import { openGguf } from "../../src/files/gguf.js";
import type { GgufValue } from "../../src/files/gguf-values.js";
import { layoutGguf, toBytes, writeGguf } from "../../src/files/gguf-write.js";
import { type ByteSource, fromBlob, fromBytes } from "../../src/files/source.js";
import { content, open, writeContent } from "./gguf-support.js";

describe("round trip", () => {
  test("what is written is read back, and written again to the same bytes", async () => {
    const property = fc.asyncProperty(content, async (made) => {
      const bytes = await writeContent(made);
      const file = await open(bytes);
      expect([...file.metadata]).toEqual([...made.metadata]);
      expect([...file.tensors.keys()]).toEqual(made.tensors.map(({ name }) => name));
      for (const { name, type, shape, data } of made.tensors) {
        expect(file.tensors.get(name)).toMatchObject({ dtype: type, shape, byteLength: data.byteLength });
        expect(await file.read(name)).toEqual(data);
      }
      expect(file.warnings).toEqual([]);
      const again = { metadata: file.metadata, tensors: made.tensors };
      expect(await writeContent(again)).toEqual(bytes);
    });
    await fc.assert(property, { numRuns: 300, seed: 30 });
  });

  test("bytes of a known file", async () => {
    const metadata = new Map<string, GgufValue>([["a", { type: "u8", value: 7 }]]);
    const tensors = [{ name: "t", type: "F32", shape: [1, 2], data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }];
    const bytes = await writeContent({ metadata, tensors });
    const header = [
      [0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0], // magic, version
      [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], // tensors, keys
      [1, 0, 0, 0, 0, 0, 0, 0, 0x61, 0, 0, 0, 0, 7], // "a", u8, 7
      [1, 0, 0, 0, 0, 0, 0, 0, 0x74, 2, 0, 0, 0], // "t", rank
      [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], // innermost first
      [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], // F32, offset
    ].flat();
    expect(header.length).toBe(79);
    expect([...bytes]).toEqual([
      ...header,
      ...Array(17).fill(0),
      1,
      2,
      3,
      4,
      5,
      6,
      7,
      8,
      ...Array(24).fill(0),
    ]);
  });

  test("headers longer than one read, from sources of any kind, reading no data", async () => {
    const long: GgufValue = { type: "array", items: "string", values: Array(40_000).fill("token") };
    const metadata = new Map<string, GgufValue>([["tokens", long]]);
    const tensors = [{ name: "t", type: "U8", shape: [], data: new Uint8Array(0) }];
    expect(() => layoutGguf(metadata, tensors)).toThrow(/no tensor type "U8"/);
    const data = new Uint8Array(4_000_000);
    const bytes = await writeContent({
      metadata,
      tensors: [{ name: "t", type: "I8", shape: [4_000_000], data }],
    });
    const reads: [number, number][] = [];
    const source: ByteSource = {
      name: "counted",
      byteLength: bytes.byteLength,
      slice: async (start, end) => {
        reads.push([start, end]);
        return bytes.subarray(start, end);
      },
    };
    for (const each of [source, fromBlob(new Blob([bytes as BlobPart])), fromBytes(bytes)]) {
      const file = await openGguf(each);
      expect(file.metadata.get("tokens")).toEqual(long);
      expect((await file.readRange("t", 5, 9)).byteLength).toBe(4);
    }
    const headerReads = reads.slice(0, -1);
    expect(headerReads[0]).toEqual([0, 65_536]);
    expect(headerReads.every(([start], i) => i === 0 || start === headerReads[i - 1][1])).toBe(true);
    expect(headerReads.at(-1)![1]).toBeLessThan(2_000_000);
  });
});

describe("the writer", () => {
  const none = new Map<string, GgufValue>();
  const refused: [string, () => unknown][] = [
    ["gguf/key", () => layoutGguf(new Map([["", { type: "u8", value: 1 }]]), [])],
    ["gguf/key", () => layoutGguf(new Map([["a.__proto__", { type: "u8", value: 1 }]]), [])],
    ["gguf/key", () => layoutGguf(new Map([["ä", { type: "u8", value: 1 }]]), [])],
    ["gguf/value", () => layoutGguf(new Map([["a", { type: "u8", value: 256 }]]), [])],
    ["gguf/value", () => layoutGguf(new Map([["a", { type: "i8", value: -129 }]]), [])],
    ["gguf/value", () => layoutGguf(new Map([["a", { type: "u32", value: 1.5 }]]), [])],
    ["gguf/value", () => layoutGguf(new Map([["a", { type: "u64", value: 2n ** 64n }]]), [])],
    ["gguf/value", () => layoutGguf(new Map([["a", { type: "u64", value: 1 as unknown as bigint }]]), [])],
    ["gguf/text", () => layoutGguf(new Map([["a", { type: "string", value: "\ud800" }]]), [])],
    ["gguf/alignment", () => layoutGguf(new Map([["general.alignment", { type: "u32", value: 4 }]]), [])],
    ["gguf/alignment", () => layoutGguf(new Map([["general.alignment", { type: "u32", value: 48 }]]), [])],
    ["gguf/alignment", () => layoutGguf(new Map([["general.alignment", { type: "i32", value: 32 }]]), [])],
    ["gguf/name", () => layoutGguf(none, [{ name: "", type: "F32", shape: [1] }])],
    ["gguf/name", () => layoutGguf(none, [{ name: "a".repeat(64), type: "F32", shape: [1] }])],
    ["gguf/name", () => layoutGguf(none, [{ name: "a\nb", type: "F32", shape: [1] }])],
    ["gguf/duplicate", () => layoutGguf(none, Array(2).fill({ name: "a", type: "F32", shape: [1] }))],
    ["gguf/type", () => layoutGguf(none, [{ name: "a", type: "Q4_2", shape: [32] }])],
    ["gguf/type", () => layoutGguf(none, [{ name: "a", type: "HQQ4", shape: [64] }])],
    ["gguf/shape", () => layoutGguf(none, [{ name: "a", type: "Q4K", shape: [255] }])],
    ["gguf/shape", () => layoutGguf(none, [{ name: "a", type: "F32", shape: [1, 1, 1, 1, 1] }])],
    ["gguf/shape", () => layoutGguf(none, [{ name: "a", type: "F32", shape: [-1] }])],
    ["gguf/shape", () => layoutGguf(none, [{ name: "a", type: "F32", shape: [2 ** 30, 2 ** 30] }])],
  ];
  test.each(refused)("%s", (tag, write) => {
    expect(write).toThrow(expect.objectContaining({ tag }));
  });

  test("arrays nested too deep", () => {
    let value: GgufValue = { type: "array", items: "u8", values: new Uint8Array(1) };
    for (let i = 0; i < 4; i++) value = { type: "array", items: "array", values: [value] };
    expect(() => layoutGguf(new Map([["a", value]]), [])).toThrow(
      expect.objectContaining({ tag: "gguf/value-type" }),
    );
  });

  test("takes data in pieces, and refuses too little or too much of it", async () => {
    const layout = layoutGguf(none, [{ name: "a", type: "Q8_0", shape: [2, 64] }]);
    const sink = toBytes(layout.byteLength);
    const whole = new Uint8Array(136).map((_, i) => i);
    const offsets: number[] = [];
    const checked = {
      write(byteOffset: number, bytes: Uint8Array) {
        offsets.push(byteOffset, byteOffset + bytes.byteLength);
        sink.write(byteOffset, bytes);
      },
    };
    async function* pieces() {
      yield whole.subarray(0, 7);
      yield whole.subarray(7);
    }
    await writeGguf(layout, pieces, checked);
    expect(sink.bytes.subarray(layout.header.byteLength, layout.header.byteLength + 136)).toEqual(whole);
    expect(offsets[0]).toBe(0);
    for (let i = 1; i + 1 < offsets.length; i += 2) expect(offsets[i]).toBe(offsets[i + 1]);
    expect(offsets.at(-1)).toBe(layout.byteLength);
    const bad = expect.objectContaining({
      tag: "gguf/size",
      details: expect.objectContaining({ limit: 136 }),
    });
    await expect(writeGguf(layout, () => whole.subarray(1), sink)).rejects.toEqual(bad);
    await expect(writeGguf(layout, () => [whole, whole.subarray(0, 1)], sink)).rejects.toEqual(bad);
  });
});

describe("tensor types", () => {
  test("are found by number, by ggml's name and by ours", () => {
    expect(ggmlTypeOf(12)).toMatchObject({ name: "Q4_K", isq: "Q4K", blockElements: 256, blockBytes: 144 });
    expect(ggmlTypeNamed("Q4K")).toBe(ggmlTypeOf(12));
    expect(ggmlTypeNamed("Q4_K")).toBe(ggmlTypeOf(12));
    expect(ggmlTypeOf(43)).toBeUndefined();
    expect(ggmlTypeNamed("constructor")).toBeUndefined();
  });

  test("sizes", () => {
    const q4k = ggmlTypeNamed("Q4K")!;
    expect(ggmlByteLength(q4k, [3, 512])).toBe(864);
    expect(ggmlByteLength(q4k, [512, 3])).toBeNull();
    expect(ggmlByteLength(ggmlTypeNamed("F32")!, [])).toBe(4);
    expect(ggmlByteLength(ggmlTypeNamed("Q4_2")!, [32])).toBeNull();
  });
});
