import fc from "fast-check";
import { expect, test } from "vitest";
import { openCursor } from "../../src/files/cursor.js";

const tags = { end: "source/short", integer: "shape/invalid", text: "option/invalid" } as const;
const open = (bytes: Uint8Array, byteOffset = 0) => openCursor(bytes, { file: "f", byteOffset, tags });

/** `bytes` in the middle of a larger buffer, at an odd offset. */
function embed(bytes: Uint8Array): Uint8Array {
  const larger = new Uint8Array(bytes.length + 8).fill(0xee);
  larger.set(bytes, 3);
  return larger.subarray(3, 3 + bytes.length);
}

test("reads what a DataView wrote", () => {
  const bytes = embed(new Uint8Array(8 + 4 + 2 + 1 + 8 + 4 + 2 + 1 + 4 + 8 + 5));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setBigUint64(0, 9007199254740991n, true);
  view.setUint32(8, 0xfffffffe, true);
  view.setUint16(12, 0xfffd, true);
  view.setUint8(14, 0xfc);
  view.setBigInt64(15, -9007199254740991n, true);
  view.setInt32(23, -2, true);
  view.setInt16(27, -3, true);
  view.setInt8(29, -4);
  view.setFloat32(30, 0.1, true);
  view.setFloat64(34, 0.1, true);
  bytes.set(new TextEncoder().encode("aé€").subarray(0, 3), 42);
  const cursor = open(bytes, 100);
  expect([cursor.byteOffset, cursor.remaining]).toEqual([100, 47]);
  const unsigned = [cursor.u64("a"), cursor.u32("a"), cursor.u16("a"), cursor.u8("a")];
  expect(unsigned).toEqual([9007199254740991, 0xfffffffe, 0xfffd, 0xfc]);
  const signed = [cursor.i64("a"), cursor.i32("a"), cursor.i16("a"), cursor.i8("a")];
  expect(signed).toEqual([-9007199254740991, -2, -3, -4]);
  expect([cursor.f32("a"), cursor.f64("a")]).toEqual([Math.fround(0.1), 0.1]);
  expect(cursor.text(3, "a")).toBe("aé");
  expect([cursor.byteOffset, cursor.remaining]).toEqual([145, 2]);
  expect(cursor.bytes(2, "a")).toEqual(new Uint8Array(2));
  expect([cursor.byteOffset, cursor.remaining]).toEqual([147, 0]);
});

test.each([
  ["u8", 1],
  ["i8", 1],
  ["u16", 2],
  ["i16", 2],
  ["u32", 4],
  ["i32", 4],
  ["f32", 4],
  ["u64", 8],
  ["i64", 8],
  ["bigU64", 8],
  ["bigI64", 8],
  ["f64", 8],
] as const)("%s at the end of the bytes", (method, byteLength) => {
  const cursor = open(embed(new Uint8Array(byteLength - 1)), 7);
  expect(() => cursor[method]("version")).toThrow(
    expect.objectContaining({
      tag: "source/short",
      details: { file: "f", field: "version", value: byteLength, limit: byteLength - 1, byteOffset: 7 },
    }),
  );
  expect(cursor.byteOffset).toBe(7);
});

test("errors in the middle of a file name the offset there, and what is left", () => {
  const bytes = Uint8Array.of(1, 2, 3, 0xc3, 0x28, 6);
  for (const [cursor, base] of [
    [open(bytes, 50), 50],
    [openCursor(bytes, { file: "f", tags }), 0],
  ] as const) {
    expect(cursor.bytes(3, "first")).toEqual(bytes.slice(0, 3));
    expect(() => cursor.text(4, "name")).toThrow(
      expect.objectContaining({
        details: { file: "f", field: "name", value: 4, limit: 3, byteOffset: base + 3 },
      }),
    );
    expect(() => cursor.text(2, "name")).toThrow(
      expect.objectContaining({
        tag: "option/invalid",
        details: { file: "f", field: "name", byteOffset: base + 3 },
      }),
    );
    expect(cursor.u8("last")).toBe(6);
    expect([cursor.byteOffset, cursor.bytes(0, "nothing").length, cursor.text(0, "nothing")]).toEqual([
      base + 6,
      0,
      "",
    ]);
  }
});

test("64 bits whole, and signed ones beyond 2^53", () => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, -(2n ** 53n), true);
  expect(open(bytes).bigI64("a")).toBe(-(2n ** 53n));
  expect(open(bytes).bigU64("a")).toBe(2n ** 64n - 2n ** 53n);
  expect(() => open(bytes).i64("count")).toThrow(
    expect.objectContaining({
      tag: "shape/invalid",
      details: { file: "f", field: "count", value: "-9007199254740992", limit: Number.MAX_SAFE_INTEGER },
    }),
  );
});

test("integers beyond 2^53 - 1 are refused, never rounded", () => {
  for (const value of [2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    expect(() => open(bytes).u64("count")).toThrow(
      expect.objectContaining({
        tag: "shape/invalid",
        details: { file: "f", field: "count", value: String(value), limit: Number.MAX_SAFE_INTEGER },
      }),
    );
  }
});

test("lengths that are no counts, and text that is not UTF-8", () => {
  const cursor = open(Uint8Array.of(0xc3, 0x28, 0xef, 0xbb, 0xbf));
  for (const length of [-1, 0.5, 6, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 64]) {
    expect(() => cursor.bytes(length, "name")).toThrow(expect.objectContaining({ tag: "source/short" }));
    expect(() => cursor.text(length, "name")).toThrow(expect.objectContaining({ tag: "source/short" }));
  }
  expect(() => cursor.text(2, "name")).toThrow(expect.objectContaining({ tag: "option/invalid" }));
  expect(cursor.text(3, "name")).toBe("\ufeff");
});

test("text of any kind comes back", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const bytes = new TextEncoder().encode(text);
      expect(open(embed(bytes)).text(bytes.length, "name")).toBe(text);
    }),
    { seed: 31 },
  );
});
