/** What the tests of GGUF share: small files in memory and arbitrary ones. */

import fc from "fast-check";
import { GGML_TYPES } from "../../src/files/ggml-types.js";
import { type Gguf, openGguf } from "../../src/files/gguf.js";
import type { GgufArray, GgufMetadata, GgufValue } from "../../src/files/gguf-values.js";
import { type GgufTensorSpec, layoutGguf, toBytes, writeGguf } from "../../src/files/gguf-write.js";
import { fromBytes } from "../../src/files/source.js";

export interface GgufContent {
  readonly metadata: GgufMetadata;
  readonly tensors: readonly (GgufTensorSpec & { readonly data: Uint8Array })[];
}

/** A whole file in memory. */
export async function writeContent({ metadata, tensors }: GgufContent): Promise<Uint8Array> {
  const layout = layoutGguf(metadata, tensors);
  const sink = toBytes(layout.byteLength);
  await writeGguf(layout, (_, index) => tensors[index].data, sink);
  return sink.bytes;
}

export function open(bytes: Uint8Array, name = "test.gguf"): Promise<Gguf> {
  return openGguf(fromBytes(bytes, name));
}

const text = fc.string({ unit: "binary", maxLength: 12 }).filter((s) => !/\p{Surrogate}/u.test(s));
export const plainKey = fc
  .string({ unit: "grapheme-ascii", minLength: 1, maxLength: 20 })
  .filter((s) => !/(^|\.)(__proto__|constructor|prototype)(\.|$)/.test(s));
const float32 = fc.float({ noNaN: true });

const scalar: fc.Arbitrary<GgufValue> = fc.oneof(
  fc.record({ type: fc.constant("u8" as const), value: fc.integer({ min: 0, max: 255 }) }),
  fc.record({ type: fc.constant("i8" as const), value: fc.integer({ min: -128, max: 127 }) }),
  fc.record({ type: fc.constant("u16" as const), value: fc.integer({ min: 0, max: 65_535 }) }),
  fc.record({ type: fc.constant("i16" as const), value: fc.integer({ min: -32_768, max: 32_767 }) }),
  fc.record({ type: fc.constant("u32" as const), value: fc.integer({ min: 0, max: 2 ** 32 - 1 }) }),
  fc.record({ type: fc.constant("i32" as const), value: fc.integer() }),
  fc.record({ type: fc.constant("f32" as const), value: float32 }),
  fc.record({ type: fc.constant("f64" as const), value: fc.double() }),
  fc.record({ type: fc.constant("bool" as const), value: fc.boolean() }),
  fc.record({ type: fc.constant("string" as const), value: text }),
  fc.record({ type: fc.constant("u64" as const), value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
  fc.record({
    type: fc.constant("i64" as const),
    value: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  }),
);

const size = { maxLength: 5 };
const flat: fc.Arbitrary<GgufArray> = fc
  .oneof(
    fc.record({ items: fc.constant("u8"), values: fc.uint8Array(size) }),
    fc.record({ items: fc.constant("bool"), values: fc.uint8Array({ ...size, max: 1 }) }),
    fc.record({ items: fc.constant("i8"), values: fc.int8Array(size) }),
    fc.record({ items: fc.constant("u16"), values: fc.uint16Array(size) }),
    fc.record({ items: fc.constant("i16"), values: fc.int16Array(size) }),
    fc.record({ items: fc.constant("u32"), values: fc.uint32Array(size) }),
    fc.record({ items: fc.constant("i32"), values: fc.int32Array(size) }),
    fc.record({ items: fc.constant("f32"), values: fc.float32Array(size) }),
    fc.record({ items: fc.constant("u64"), values: fc.bigUint64Array(size) }),
    fc.record({ items: fc.constant("i64"), values: fc.bigInt64Array(size) }),
    fc.record({ items: fc.constant("f64"), values: fc.float64Array(size) }),
    fc.record({ items: fc.constant("string"), values: fc.array(text, size) }),
  )
  .map((array) => ({ type: "array", ...array }) as GgufArray);

const nest = (inner: fc.Arbitrary<GgufArray>): fc.Arbitrary<GgufArray> =>
  fc.array(inner, { maxLength: 3 }).map((values) => ({ type: "array", items: "array", values }));

const value: fc.Arbitrary<GgufValue> = fc.oneof(scalar, flat, nest(flat), nest(nest(nest(flat))));

const readable = GGML_TYPES.filter(({ blockElements }) => blockElements > 0);

/** A tensor of any type that can be written, with bytes of its own. */
const tensor = fc
  .record({
    type: fc.constantFrom(...readable),
    rows: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }),
    blocks: fc.integer({ min: 0, max: 3 }),
    fill: fc.integer({ min: 0, max: 255 }),
  })
  .map(({ type, rows, blocks, fill }) => {
    const shape = [...rows, blocks * type.blockElements];
    const count = rows.reduce((product, n) => product * n, blocks);
    const data = new Uint8Array(count * type.blockBytes).map((_, i) => fill + 31 * i);
    return { type: type.name, shape, data };
  });

/** Any content that a file can have. */
export const content: fc.Arbitrary<GgufContent> = fc
  .record({
    metadata: fc.uniqueArray(fc.tuple(plainKey, value), { maxLength: 6, selector: ([key]) => key }),
    alignment: fc.constantFrom(null, 8, 32, 64, 4096),
    tensors: fc.array(tensor, { maxLength: 5 }),
  })
  .map(({ metadata, alignment, tensors }) => ({
    metadata: new Map([
      ...metadata.filter(([key]) => key !== "general.alignment"),
      ...(alignment ? [["general.alignment", { type: "u32", value: alignment }] as const] : []),
    ] as [string, GgufValue][]),
    tensors: tensors.map((made, i) => ({ name: `t${i}.weight`, ...made })),
  }));
