/** The typed values of GGUF metadata. 64-bit integers are bigint, so that none is rounded. */

/** Names of the value types; the index is the number in the file. */
export const GGUF_VALUE_TYPES = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;

export type GgufValueType = (typeof GGUF_VALUE_TYPES)[number];

type NumberType = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "f64";

export type GgufValue =
  | { readonly type: NumberType; readonly value: number }
  | { readonly type: "u64"; readonly value: bigint }
  | { readonly type: "i64"; readonly value: bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | GgufArray;

/** An array of one type. Numbers are typed arrays, bools bytes 0 and 1. */
export type GgufArray = { readonly type: "array" } & (
  | { readonly items: "u8" | "bool"; readonly values: Uint8Array }
  | { readonly items: "i8"; readonly values: Int8Array }
  | { readonly items: "u16"; readonly values: Uint16Array }
  | { readonly items: "i16"; readonly values: Int16Array }
  | { readonly items: "u32"; readonly values: Uint32Array }
  | { readonly items: "i32"; readonly values: Int32Array }
  | { readonly items: "f32"; readonly values: Float32Array }
  | { readonly items: "u64"; readonly values: BigUint64Array }
  | { readonly items: "i64"; readonly values: BigInt64Array }
  | { readonly items: "f64"; readonly values: Float64Array }
  | { readonly items: "string"; readonly values: readonly string[] }
  | { readonly items: "array"; readonly values: readonly GgufArray[] }
);

/** By key. A file that we write keeps the order of the map. */
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** Bytes of one item; for strings and arrays the fewest that one can take. */
export const GGUF_ITEM_BYTES: Readonly<Record<GgufValueType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  array: 12,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** Views over bytes, which must start at an aligned offset of their buffer. Little-endian hosts only, as all of them are. */
export const GGUF_VIEWS = {
  u8: Uint8Array,
  bool: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
  f64: Float64Array,
} as const;

export const ALIGNMENT_KEY = "general.alignment";
export const DEFAULT_ALIGNMENT = 32;

/** Smallest multiple of `alignment` that is not below `offset`. */
export function padOffset(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

const PLAIN_KEY = /^[\x20-\x7e]+$/;
const RESERVED = new Set(["__proto__", "constructor", "prototype"]);

/**
 * Whether a metadata key is printable ASCII without parts that programs which unfold keys into objects could trip over
 * (CWE-1321).
 */
export function isPlainKey(key: string): boolean {
  return PLAIN_KEY.test(key) && !key.split(".").some((part) => RESERVED.has(part));
}

/** Whether a tensor name is not empty and free of control characters (logs, terminals, C strings; CWE-117). */
export function isPlainName(name: string): boolean {
  return name !== "" && !/\p{Cc}|\p{Surrogate}/u.test(name);
}
