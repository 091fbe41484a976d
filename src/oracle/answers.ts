/** What the contract answers to a case, and where an answer differs from it. */

import { type DotOrder, dequantize, dot, type IsqType, quantize, TYPES } from "../quants/index.js";
import type { VectorCase } from "./cases.js";
import { bytesOf, floatsOf, packTensor, unpackTensor } from "./packed.js";
import type { VectorSpec } from "./spec.js";

/** The reference's answer: packed tensor, decoded values, or one binary32 number. */
export function expectedAnswer(spec: VectorSpec, asked: VectorCase): Uint8Array {
  const { operation, type, algorithm, columns } = spec;
  const { parts } = asked;
  if (operation === "encode") {
    const { values, importance } = asked as { values: Float32Array; importance?: Float32Array };
    return packTensor(
      quantize(type, values, { shape: [1, columns], algorithm, ...(importance && { importance }) }),
    );
  }
  if (operation === "decode")
    return bytesOf(dequantize(unpackTensor(type, algorithm, columns, parts["data"])));
  return bytesOf(Float32Array.of(dot(type, parts["weights"], parts["activations"], algorithm as DotOrder)));
}

export interface AnswerDifference {
  /** Of the first differing byte. */
  readonly offset: number;
  /** Block, field and byte, or element, in words. */
  readonly place: string;
  readonly block: number;
  readonly expected: string;
  readonly actual: string;
  readonly differingBytes: number;
}

/** Undefined when the answers agree; a NaN agrees with any NaN in its place. Both have the spec's answer length. */
export function compareAnswer(
  spec: VectorSpec,
  expected: Uint8Array,
  actual: Uint8Array,
): AnswerDifference | undefined {
  const [e, a] = [canonicalAnswer(spec, expected), canonicalAnswer(spec, actual)];
  let offset = -1;
  let differingBytes = 0;
  for (let i = 0; i < e.length; i++) {
    if (e[i] === a[i]) continue;
    if (offset < 0) offset = i;
    differingBytes++;
  }
  if (offset < 0) return undefined;
  if (spec.operation !== "encode") {
    const element = offset >> 2;
    const [x, y] = [floatsOf(e)[element], floatsOf(a)[element]];
    const place = spec.operation === "dot" ? "the dot product" : `element ${element}`;
    const block = Math.floor(element / TYPES[spec.type].blockElements);
    return { offset: 4 * element, place, block, expected: number(x), actual: number(y), differingBytes };
  }
  return {
    offset,
    ...placeOf(spec.type, offset, spec.columns),
    expected: hex(e[offset], 2),
    actual: hex(a[offset], 2),
    differingBytes,
  };
}

export const hex = (value: number, digits: number): string => `0x${value.toString(16).padStart(digits, "0")}`;

const number = (value: number): string =>
  `${value} (${hex(new Uint32Array(Float32Array.of(value).buffer)[0], 8)})`;

/** Block and field of a byte of a packed tensor of `columns` elements. */
export function placeOf(type: IsqType, offset: number, columns: number): { place: string; block: number } {
  const { family, blockBytes, blockElements, fields } = TYPES[type];
  if (family !== "block") return placeInTensor(type, offset, columns);
  const block = Math.floor(offset / blockBytes);
  const inBlock = offset - block * blockBytes;
  const field = fields.find((f) => inBlock >= f.offset && inBlock < f.offset + f.byteLength);
  const byte = field ? `${field.name}[${inBlock - field.offset}]` : `byte ${inBlock}`;
  return { place: `block ${block} of ${columns / blockElements}, ${byte}`, block };
}

function placeInTensor(type: IsqType, offset: number, columns: number): { place: string; block: number } {
  const groups = TYPES[type].family === "group" ? columns / TYPES[type].blockElements : 1;
  const sides = TYPES[type].family === "group" ? ["scale", "zero"] : ["quantizeScale", "dequantizeScale"];
  const dataBytes = TYPES[type].family === "group" ? (TYPES[type].blockBytes - 8) * groups : columns;
  if (offset < dataBytes) return { place: `code byte ${offset}`, block: offset % groups };
  const side = (offset - dataBytes) >> 2;
  const [name, group] = [sides[Math.floor(side / groups)], side % groups];
  return { place: groups > 1 || sides[0] === "scale" ? `${name} of group ${group}` : name, block: group };
}

/** The answer with every NaN number as one pattern. The rest of the bytes is kept. */
export function canonicalAnswer(
  spec: Pick<VectorSpec, "operation" | "type" | "columns">,
  bytes: Uint8Array,
): Uint8Array {
  const out = bytes.slice();
  const view = new DataView(out.buffer);
  const float = (at: number) => {
    if (Number.isNaN(view.getFloat32(at, true))) view.setUint32(at, 0x7fc00000, true);
  };
  const { family, blockBytes, fields } = TYPES[spec.type];
  if (spec.operation !== "encode") for (let at = 0; at < out.length; at += 4) float(at);
  else if (family === "block") {
    for (let block = 0; block < out.length; block += blockBytes) {
      for (const { kind, offset } of fields) {
        if (kind === "f32") float(block + offset);
        if (kind !== "f16") continue;
        const half = view.getUint16(block + offset, true);
        if ((half & 0x7fff) > 0x7c00) view.setUint16(block + offset, 0x7e00, true);
      }
    }
  } else {
    const sides = family === "group" ? 2 * (spec.columns / TYPES[spec.type].blockElements) : 2;
    for (let i = 1; i <= sides; i++) float(out.length - 4 * i);
  }
  return out;
}
