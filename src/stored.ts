/**
 * A safetensors checkpoint as a program names its weights: some are stored under other names, transposed, or as slices of
 * stacks. Quantized tensors of files that isq wrote are stored as the program has them.
 */

import type { Program, StoredWeight, WeightSpec } from "./backends/program.js";
import { DENSE_BYTES, isDense } from "./dense.js";
import { IsqError } from "./errors.js";
import type { Checkpoint, CheckpointEntry } from "./files/checkpoint.js";
import { transposeMatrix } from "./model/gguf/rows.js";

/** What a weight is made of. */
interface View extends CheckpointEntry {
  readonly from: string;
  /** Bytes from the start of the stored tensor. */
  readonly start: number;
  /** Of a tensor that is stored transposed: the width of an element; else 0. */
  readonly elementBytes: number;
}

/** Throws `tensor/shape` naming both shapes when a stored tensor cannot be the weight. */
export function presentCheckpoint(checkpoint: Checkpoint, { weights }: Program): Checkpoint {
  const views = new Map<string, View>();
  for (const weight of weights) {
    const view = viewOf(checkpoint, weight);
    if (view) views.set(weight.name, view);
  }
  if (views.size === 0) return checkpoint;
  const read = async (name: string): Promise<Uint8Array> => {
    const view = views.get(name);
    if (!view) return checkpoint.read(name);
    const { from, start, byteLength, elementBytes, shape } = view;
    if (elementBytes > 0) {
      return transposeMatrix(await checkpoint.read(from), shape[1], shape[0], elementBytes);
    }
    return checkpoint.readRange(from, start, start + byteLength);
  };
  return {
    ...checkpoint,
    tensors: new Map<string, CheckpointEntry>([...checkpoint.tensors, ...views]),
    read,
    async readRange(name, start, end) {
      const view = views.get(name);
      if (!view) return checkpoint.readRange(name, start, end);
      if (view.elementBytes > 0) return (await read(name)).subarray(start, end);
      return checkpoint.readRange(view.from, view.start + start, view.start + end);
    },
    ...(checkpoint.readSides && {
      readSides: (name: string) => checkpoint.readSides!(views.get(name)?.from ?? name),
    }),
    locate(name) {
      const view = views.get(name);
      if (!view) return checkpoint.locate(name);
      const place = view.elementBytes > 0 ? null : checkpoint.locate(view.from);
      return place && { ...place, byteOffset: place.byteOffset + view.start };
    },
  };
}

/** Null where the weight is stored as it is, or nowhere. */
function viewOf({ tensors, name: file }: Checkpoint, weight: WeightSpec): View | null {
  const stored = weight.stored?.find(({ name }) => tensors.has(name));
  const asItIs = stored?.name === weight.name && !stored.transposed && !stored.slice;
  if (!stored || asItIs) return null;
  const entry = tensors.get(stored.name)!;
  const base = { ...entry, name: weight.name, from: stored.name, start: 0, elementBytes: 0 };
  if (!isDense(entry.dtype)) return base;
  const elementBytes = DENSE_BYTES[entry.dtype];
  const wanted = storedShape(stored, weight.shape);
  if (wanted.length !== entry.shape.length || wanted.some((size, i) => size !== entry.shape[i])) {
    throw shapeError(file, entry, wanted);
  }
  if (stored.transposed) return { ...base, shape: weight.shape, elementBytes };
  if (!stored.slice) return base;
  const { index, first } = stored.slice;
  const [, rows, columns] = wanted;
  const byteLength = weight.shape[0] * columns * elementBytes;
  return { ...base, shape: weight.shape, start: (index * rows + first) * columns * elementBytes, byteLength };
}

function storedShape({ transposed, slice }: StoredWeight, shape: readonly number[]): readonly number[] {
  if (slice) return slice.stack;
  return transposed ? [...shape].reverse() : shape;
}

/** The refusal of a tensor of another shape than its architecture needs. */
export function shapeError(
  file: string,
  { name, shape }: Pick<CheckpointEntry, "name" | "shape">,
  wanted: readonly number[],
): IsqError {
  const message = `${name} is [${shape.join(", ")}] in ${file} and must be [${wanted.join(", ")}]`;
  const details = { file, tensor: name, field: "shape", value: shape, limit: wanted };
  return new IsqError("tensor/shape", message, details);
}
