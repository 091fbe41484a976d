/** The bytes of GGUF metadata: a growing little-endian buffer, and the values written to it. */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import {
  GGUF_VALUE_TYPES,
  GGUF_VIEWS,
  type GgufArray,
  type GgufMetadata,
  type GgufValue,
  type GgufValueType,
  isPlainKey,
  padOffset,
} from "./gguf-values.js";
import { quote } from "./json.js";

export interface GgufEncoder {
  u8(value: number): void;
  u32(value: number): void;
  u64(value: number | bigint): void;
  bytes(bytes: Uint8Array): void;
  /** Length in bytes (u64), then UTF-8. */
  text(text: string): void;
  /** Zeros up to a multiple of `alignment`. */
  pad(alignment: number): void;
  /** What was written; a copy. */
  finish(): Uint8Array;
}

export function openGgufEncoder(): GgufEncoder {
  let buffer = new Uint8Array(4096);
  let at = 0;
  /** Makes room and returns a view of it. */
  const reserve = (byteLength: number): DataView => {
    if (at + byteLength > buffer.byteLength) {
      const longer = new Uint8Array(Math.max(2 * buffer.byteLength, at + byteLength));
      longer.set(buffer.subarray(0, at));
      buffer = longer;
    }
    at += byteLength;
    return new DataView(buffer.buffer, at - byteLength, byteLength);
  };
  const encoder: GgufEncoder = {
    u8: (value) => reserve(1).setUint8(0, value),
    u32: (value) => reserve(4).setUint32(0, value, true),
    u64: (value) => reserve(8).setBigUint64(0, BigInt(value), true),
    bytes(bytes) {
      reserve(bytes.byteLength);
      buffer.set(bytes, at - bytes.byteLength);
    },
    text(text) {
      const bytes = UTF8.encode(text);
      encoder.u64(bytes.byteLength);
      encoder.bytes(bytes);
    },
    pad(alignment) {
      reserve(padOffset(at, alignment) - at);
    },
    finish: () => buffer.slice(0, at),
  };
  return encoder;
}

const UTF8 = new TextEncoder();

/** Writes keys and values in the order of the map. Throws `gguf/key`, `gguf/value`, `gguf/text`, `gguf/count`. */
export function writeMetadata(encoder: GgufEncoder, metadata: GgufMetadata): void {
  const budget = { objects: LIMITS.ggufArrayObjects };
  for (const [key, value] of metadata) {
    if (!isPlainKey(key) || key.length > LIMITS.ggufKeyBytes) {
      refuse("gguf/key", `${quote(key)} is no key for metadata`, { field: "key", value: key });
    }
    encoder.text(key);
    writeType(encoder, value.type);
    if (value.type === "array") writeArray(encoder, key, value, 1, budget);
    else writeScalar(encoder, key, value);
  }
}

function writeType(encoder: GgufEncoder, type: GgufValueType): void {
  encoder.u32(GGUF_VALUE_TYPES.indexOf(type));
}

type Scalar = Exclude<GgufValue, GgufArray>;

/** Ranges of the integer types. */
const RANGES: Readonly<Record<string, readonly [minimum: number | bigint, maximum: number | bigint]>> = {
  u8: [0, 255],
  i8: [-128, 127],
  u16: [0, 65_535],
  i16: [-32_768, 32_767],
  u32: [0, 2 ** 32 - 1],
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u64: [0n, 2n ** 64n - 1n],
  i64: [-(2n ** 63n), 2n ** 63n - 1n],
};

function writeScalar(encoder: GgufEncoder, key: string, scalar: Scalar): void {
  checkScalar(key, scalar);
  if (scalar.type === "string") writeString(encoder, key, scalar.value);
  else if (scalar.type === "bool") encoder.u8(scalar.value ? 1 : 0);
  else if (scalar.type === "u64" || scalar.type === "i64") encoder.u64(BigInt.asUintN(64, scalar.value));
  else encoder.bytes(new Uint8Array(GGUF_VIEWS[scalar.type].of(scalar.value).buffer));
}

function checkScalar(key: string, { type, value }: Scalar): void {
  const range = RANGES[type];
  const wanted =
    { bool: "boolean", string: "string", u64: "bigint", i64: "bigint" }[type as string] ?? "number";
  const fits = (number: number | bigint) =>
    (typeof number === "bigint" || Number.isInteger(number)) && number >= range[0] && number <= range[1];
  if (typeof value === wanted && (range === undefined || fits(value as number | bigint))) return;
  const message = `${key} is ${quote(String(value))}, which is no ${type}`;
  refuse("gguf/value", message, { field: key, value: String(value), limit: type });
}

function writeString(encoder: GgufEncoder, key: string, text: string): void {
  if (typeof text !== "string" || /\p{Surrogate}/u.test(text)) {
    const message = `${key} has ${quote(String(text))}, which is not text that UTF-8 can hold`;
    refuse("gguf/text", message, { field: key, value: text });
  }
  const bytes = UTF8.encode(text);
  checkLimit(key, bytes.byteLength, LIMITS.ggufStringBytes);
  encoder.u64(bytes.byteLength);
  encoder.bytes(bytes);
}

function writeArray(
  encoder: GgufEncoder,
  key: string,
  array: GgufArray,
  depth: number,
  budget: { objects: number },
): void {
  if (depth > LIMITS.ggufArrayDepth) {
    const details = { field: key, value: depth, limit: LIMITS.ggufArrayDepth };
    refuse("gguf/value-type", `${key} has arrays nested deeper than ${LIMITS.ggufArrayDepth}`, details);
  }
  writeType(encoder, array.items);
  encoder.u64(array.values.length);
  if (array.items === "string" || array.items === "array") {
    checkLimit(key, array.values.length, budget.objects);
    budget.objects -= array.values.length;
    if (array.items === "string") for (const text of array.values) writeString(encoder, key, text);
    else for (const inner of array.values) writeArray(encoder, key, inner, depth + 1, budget);
    return;
  }
  const { values } = array;
  checkLimit(key, values.length, LIMITS.ggufArrayItems);
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  encoder.bytes(array.items === "bool" ? bytes.map((byte) => Math.min(byte, 1)) : bytes);
}

function checkLimit(key: string, count: number, limit: number): void {
  if (count <= limit) return;
  refuse("gguf/count", `${key} has the length ${count}, above ${limit}`, { field: key, value: count, limit });
}

function refuse(tag: ErrorTag, message: string, details: ErrorDetails): never {
  throw new IsqError(tag, message, details);
}
