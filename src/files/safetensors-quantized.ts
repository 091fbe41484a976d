/**
 * Quantized tensors in safetensors files, which have no types for them: the bytes are a flat U8 tensor under the tensor's
 * name, and the file's metadata says under `isq.tensor.NAME` what they are. Side values are F32 vectors of their own: HQQ has
 * `NAME.scales` and `NAME.zeros`; FP8 has `NAME.scales`, what weights were multiplied by and what codes are multiplied by.
 */

import { IsqError } from "../errors.js";
import type { Limits } from "../limits.js";
import { type Algorithm, type IsqType, TYPES } from "../quants/table.js";
import {
  finishJson,
  JsonError,
  openJson,
  quote,
  readArray,
  readCount,
  readObject,
  readString,
  skipValue,
} from "./json.js";
import type { SafetensorsEntry, SafetensorsHeader } from "./safetensors-header.js";

/** What the metadata says of one tensor. */
export interface QuantizedEntry {
  readonly type: IsqType;
  readonly algorithm: Algorithm;
  readonly shape: readonly number[];
}

/** A side vector: the suffix of its name, and how many values it has. */
export interface SideVector {
  readonly suffix: string;
  readonly length: number;
}

/** A binary32 scale and zero, which the table counts as part of a group. */
const GROUP_SIDE_BYTES = 8;

const PREFIX = "isq.tensor.";

/** The metadata of a quantized tensor, as key and value. */
export function formatQuantizedEntry(
  name: string,
  { type, algorithm, shape }: QuantizedEntry,
): [string, string] {
  return [PREFIX + name, JSON.stringify({ type, algorithm, shape })];
}

/** The side vectors of a tensor. */
export function sideVectors(type: IsqType, shape: readonly number[]): readonly SideVector[] {
  const { family, blockElements } = TYPES[type];
  if (family === "block") return [];
  if (family === "tensor") return [{ suffix: ".scales", length: 2 }];
  const length = countElements(shape) / blockElements;
  return [
    { suffix: ".scales", length },
    { suffix: ".zeros", length },
  ];
}

/**
 * The quantized tensors of a file, by name. Throws `safetensors/quantized` for metadata that is malformed or does not suit
 * the tensors.
 */
export function readQuantizedEntries(
  file: string,
  { metadata, tensors }: Pick<SafetensorsHeader, "metadata" | "tensors">,
  limits: Limits,
): Map<string, QuantizedEntry> {
  const found = new Map<string, QuantizedEntry>();
  for (const [key, text] of metadata) {
    if (!key.startsWith(PREFIX)) continue;
    const name = key.slice(PREFIX.length);
    const entry = parseEntry(file, key, text, limits);
    const { blockElements, blockBytes, family } = TYPES[entry.type];
    const blocks = countElements(entry.shape) / blockElements;
    const codeBytes = family === "group" ? blockBytes - GROUP_SIDE_BYTES : blockBytes;
    checkVector(file, name, tensors.get(name), "U8", blocks * codeBytes);
    for (const { suffix, length } of sideVectors(entry.type, entry.shape)) {
      checkVector(file, name, tensors.get(name + suffix), "F32", length);
    }
    found.set(name, entry);
  }
  return found;
}

function parseEntry(file: string, key: string, text: string, limits: Limits): QuantizedEntry {
  const fields: { type?: string; algorithm?: string; shape?: number[] } = {};
  try {
    const json = openJson(text, { depth: 2, entries: limits.tensorRank });
    readObject(json, (field) => {
      if (field === "type") fields.type = readString(json);
      else if (field === "algorithm") fields.algorithm = readString(json);
      else if (field === "shape") {
        const shape: number[] = [];
        readArray(json, () => void shape.push(readCount(json) ?? Number.NaN));
        fields.shape = shape;
      } else skipValue(json);
    });
    finishJson(json);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw entryError(file, key, error.message, text);
  }
  const { type, algorithm, shape } = fields;
  const row = type !== undefined && Object.hasOwn(TYPES, type) ? TYPES[type as IsqType] : null;
  if (!row) throw entryError(file, key, "names no quantization type", text);
  const encoder = row.algorithms.find((name) => name === algorithm);
  if (!encoder) throw entryError(file, key, `names no algorithm of ${row.name}`, text);
  if (!shape || !isShapeOf(row.name, shape, limits)) {
    throw entryError(file, key, `has no shape that ${row.name} can have`, text);
  }
  return { type: row.name, algorithm: encoder, shape };
}

function isShapeOf(type: IsqType, shape: readonly number[], limits: Limits): boolean {
  const { family, blockElements } = TYPES[type];
  if (shape.length === 0 || shape.length > limits.tensorRank) return false;
  const elements = countElements(shape);
  const run = family === "block" ? shape[shape.length - 1] : elements;
  return elements <= limits.tensorElements && run % blockElements === 0;
}

/** NaN for a shape with a size that is none. */
function countElements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function checkVector(
  file: string,
  name: string,
  entry: SafetensorsEntry | undefined,
  dtype: string,
  length: number,
): void {
  if (entry?.dtype === dtype && entry.shape.length === 1 && entry.shape[0] === length) return;
  const found = entry ? `${entry.dtype} [${entry.shape.join(", ")}]` : "missing";
  throw entryError(file, name, `needs a vector ${dtype} [${length}], which is ${found}`, found);
}

function entryError(file: string, field: string, problem: string, value: unknown): IsqError {
  return new IsqError("safetensors/quantized", `${file}: ${quote(field)} ${problem}`, { file, field, value });
}
