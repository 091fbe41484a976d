/** Bit comparison with messages that say where the first difference lies. */

import { sha256 } from "@noble/hashes/sha2.js";
import { type IsqType, TYPES } from "../../src/quants/index.js";
import type { Decoded } from "../../src/vectors/parse.js";

const hex = (value: number, digits: number): string => `0x${value.toString(16).padStart(digits, "0")}`;

/** Undefined when equal; otherwise the first differing block, its field, and how much differs. */
export function compareBytes(
  type: IsqType,
  actual: Uint8Array,
  expected: Uint8Array,
  what = "data",
): string | undefined {
  if (actual.length !== expected.length) return `${what} has ${actual.length} bytes, not ${expected.length}`;
  let first = -1;
  let count = 0;
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] === expected[i]) continue;
    if (first < 0) first = i;
    count++;
  }
  if (first < 0) return undefined;
  const values = `expected ${hex(expected[first], 2)}, got ${hex(actual[first], 2)}`;
  return `${what} ${placeOf(type, first)}: ${values}; ${count} of ${expected.length} bytes differ`;
}

/** Block, field and byte of an offset into the data of a type. */
export function placeOf(type: IsqType, offset: number): string {
  const row = TYPES[type];
  if (row.family !== "block") return `byte ${offset}`;
  const inBlock = offset % row.blockBytes;
  const field = row.fields.find((f) => inBlock >= f.offset && inBlock < f.offset + f.byteLength);
  const byte = field ? `${field.name}[${inBlock - field.offset}]` : `byte ${inBlock}`;
  return `block ${Math.floor(offset / row.blockBytes)} ${byte}`;
}

/** The bits of the values, every NaN as 0x7fc00000. */
export function canonicalBits(values: Float32Array): Uint32Array {
  const bits = new Uint32Array(values.slice().buffer);
  for (let i = 0; i < bits.length; i++) if (Number.isNaN(values[i])) bits[i] = 0x7fc00000;
  return bits;
}

/** Undefined when all bits are equal, NaN counting as equal to NaN; otherwise the first difference. */
export function compareFloats(
  actual: Float32Array,
  expected: Float32Array,
  what = "decoded",
): string | undefined {
  if (actual.length !== expected.length) return `${what} has ${actual.length} values, not ${expected.length}`;
  const [a, e] = [canonicalBits(actual), canonicalBits(expected)];
  const first = e.findIndex((bits, i) => bits !== a[i]);
  if (first < 0) return undefined;
  const values = `expected ${expected[first]} (${hex(e[first], 8)}), got ${actual[first]} (${hex(a[first], 8)})`;
  return `${what} element ${first}: ${values}`;
}

/** As {@link compareFloats}, for expectations of which only the hash may be known. */
export function compareDecoded(
  actual: Float32Array,
  expected: Decoded,
  what = "decoded",
): string | undefined {
  if ("values" in expected) return compareFloats(actual, expected.values, what);
  const hash = sha256(new Uint8Array(canonicalBits(actual).buffer));
  return hash.every((byte, i) => byte === expected.sha256[i]) ? undefined : `${what} has another sha256`;
}

/** A copy without the signs of f16 scales that are NaN: they depend on the processor, in JavaScript as well. */
export function withoutNanSigns(type: IsqType, bytes: Uint8Array): Uint8Array {
  const { blockBytes, fields, family } = TYPES[type];
  const out = bytes.slice();
  for (const { offset, kind } of family === "block" ? fields : []) {
    if (kind !== "f16") continue;
    for (let at = offset; at < out.length; at += blockBytes) {
      if ((out[at + 1] & 0x7c) === 0x7c && ((out[at + 1] & 3) | out[at]) !== 0) out[at + 1] &= 0x7f;
    }
  }
  return out;
}

/** Undefined when all words are equal. */
export function compareWords(actual: Uint16Array, expected: Uint16Array, what: string): string | undefined {
  if (actual.length !== expected.length) return `${what} has ${actual.length} words, not ${expected.length}`;
  const first = expected.findIndex((word, i) => word !== actual[i]);
  if (first < 0) return undefined;
  return `${what} ${first}: expected ${hex(expected[first], 4)}, got ${hex(actual[first], 4)}`;
}
