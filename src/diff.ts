/** What two files of tensors differ in, whatever their formats: names, types, shapes, bytes, and by how much values do. */

import type { Tensor } from "./backends/backend.js";
import { isDense, widen } from "./dense.js";
import { checkAborted } from "./errors.js";
import { hashTensors, type InspectedFile, type InspectedTensor, isDecodable } from "./inspect.js";
import { dequantize } from "./quants/index.js";
import { type IsqType, TYPES } from "./quants/table.js";

/** How far the values of two tensors are apart. */
export interface ValueDistance {
  readonly largest: number;
  /** Root of the mean of the squared differences, over that of the squared values of the first tensor. */
  readonly relative: number;
}

export interface TensorDifference {
  readonly name: string;
  /** What differs first. */
  readonly what: "only in the first" | "only in the second" | "shape" | "type" | "bytes";
  readonly first: string | null;
  readonly second: string | null;
  /** Where asked for, and where both can be decoded. */
  readonly values?: ValueDistance;
}

export interface KeyDifference {
  readonly key: string;
  readonly first: unknown;
  readonly second: unknown;
}

export interface FileDifference {
  readonly tensors: readonly TensorDifference[];
  readonly metadata: readonly KeyDifference[];
}

export interface DiffOptions {
  /** Decode tensors that differ, and say by how much. */
  readonly values?: boolean;
  readonly signal?: AbortSignal;
}

/** Compares two files. The order of tensors and keys does not count. Throws `source/*`, `aborted`. */
export async function diffFiles(
  first: InspectedFile,
  second: InspectedFile,
  { values = false, signal }: DiffOptions = {},
): Promise<FileDifference> {
  const [hashes, otherHashes] = [await hashTensors(first, signal), await hashTensors(second, signal)];
  const others = new Map(second.tensors.map((tensor) => [tensor.name, tensor]));
  const names = new Set(first.tensors.map(({ name }) => name));
  const tensors: TensorDifference[] = [];
  for (const tensor of first.tensors) {
    const other = others.get(tensor.name);
    const same = hashes.get(tensor.name) === otherHashes.get(tensor.name);
    const found = compareTensors(tensor, other, same);
    if (!found) continue;
    checkAborted(signal);
    const distance = values && other ? await measureDistance(first, tensor, second, other) : null;
    tensors.push(distance ? { ...found, values: distance } : found);
  }
  for (const { name, type, shape } of second.tensors) {
    if (names.has(name)) continue;
    tensors.push({ name, what: "only in the second", first: null, second: describe(type, shape) });
  }
  return { tensors, metadata: diffMetadata(first, second) };
}

function compareTensors(
  a: InspectedTensor,
  b: InspectedTensor | undefined,
  same: boolean,
): TensorDifference | null {
  const { name } = a;
  const first = describe(a.type, a.shape);
  if (!b) return { name, what: "only in the first", first, second: null };
  const second = describe(b.type, b.shape);
  if (a.shape.join() !== b.shape.join()) return { name, what: "shape", first, second };
  if (a.type !== b.type) return { name, what: "type", first, second };
  return same ? null : { name, what: "bytes", first, second };
}

function describe(type: string, shape: readonly number[]): string {
  return `${type} [${shape.join(", ")}]`;
}

function diffMetadata(first: InspectedFile, second: InspectedFile): KeyDifference[] {
  const [a, b] = [first, second].map(
    ({ metadata }) => new Map(metadata.map(({ key, value }) => [key, value])),
  );
  const keys = [...new Set([...a.keys(), ...b.keys()])];
  return keys
    .filter((key) => JSON.stringify(a.get(key)) !== JSON.stringify(b.get(key)))
    .map((key) => ({ key, first: a.get(key), second: b.get(key) }));
}

/** Elements that are decoded at once, where rows are shorter. */
const CHUNK_ELEMENTS = 2 ** 20;

async function measureDistance(
  first: InspectedFile,
  a: InspectedTensor,
  second: InspectedFile,
  b: InspectedTensor,
): Promise<ValueDistance | null> {
  const elements = a.shape.reduce((product, size) => product * size, 1);
  if (elements === 0 || a.shape.join() !== b.shape.join()) return null;
  if (!isDecodable(a.type) || !isDecodable(b.type)) return null;
  const columns = a.shape[a.shape.length - 1];
  const rows = elements / columns;
  const step = Math.max(1, Math.floor(CHUNK_ELEMENTS / columns));
  let [largest, squares, total] = [0, 0, 0];
  for (let start = 0; start < rows; start += step) {
    const end = Math.min(rows, start + step);
    const [x, y] = [
      await decodeRows(first, a, start, end, rows),
      await decodeRows(second, b, start, end, rows),
    ];
    for (let i = 0; i < x.length; i++) {
      const difference = x[i] - y[i];
      largest = Math.max(largest, Math.abs(difference));
      squares += difference * difference;
      total += x[i] * x[i];
    }
  }
  return { largest, relative: total === 0 ? (squares === 0 ? 0 : 1) : Math.sqrt(squares / total) };
}

async function decodeRows(
  file: InspectedFile,
  tensor: InspectedTensor,
  start: number,
  end: number,
  rows: number,
): Promise<Float32Array> {
  const { type, shape, byteLength } = tensor;
  const rowBytes = byteLength / rows;
  const data = await file.readRange(tensor, start * rowBytes, end * rowBytes);
  const part = { shape: [end - start, shape[shape.length - 1]], data };
  if (isDense(type)) return widen({ type, ...part });
  const isq = type as IsqType;
  const whole: Tensor = { type: isq, algorithm: TYPES[isq].algorithms[0], ...part };
  return dequantize(whole);
}
