/** Models for the tests of this folder: opened like any checkpoint, placed on the reference. */

import type { Backend, DenseTensor, Session } from "../../src/backends/backend.js";
import { reference } from "../../src/backends/reference.js";
import { widen } from "../../src/dense.js";
import type { Directory } from "../../src/files/directory.js";
import { openModel } from "../../src/load.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { openDirectory } from "../../src/node/directory.js";
import { placeModel } from "../../src/place.js";
import { plan } from "../../src/plan.js";
import { dequantize, quantize } from "../../src/quants/index.js";
import type { IsqType } from "../../src/quants/table.js";

/** Of the greedy sequences of fixtures. */
export const PROMPT_TOKENS = 8;
/**
 * Tokens of a greedy sequence that were generated from all tokens before them, where that is not all of them: once a text of
 * phi3 is longer than its original context of 32, the generator of transformers 5.17 drops its cache at every step.
 */
export const CONTINUED: Readonly<Record<string, number>> = { phi3: 33 };

export interface Opened {
  readonly model: LanguageModel;
  readonly session: Session;
}

export interface OpenOptions {
  readonly cachePositions?: number;
  /** Where it runs; the reference when absent. */
  readonly backend?: Backend;
  /** What quantizes; isq/quants when absent. */
  readonly quantizer?: Backend;
  /** Quantize linears and head to this. */
  readonly type?: IsqType;
  /** Place what the quantized weights decode to instead. */
  readonly decoded?: boolean;
}

export async function openLanguageModel(
  directory: Directory,
  { cachePositions, backend = reference(), quantizer, type: quantized, decoded = false }: OpenOptions = {},
): Promise<Opened> {
  const { program, checkpoint, sourceOf } = await openModel(directory);
  const positions = cachePositions ?? program.contextLength;
  const session = await backend.open(program, { cachePositions: positions });
  for (const [index, weight] of program.weights.entries()) {
    const { name, type, shape } = sourceOf(weight);
    if (!(type === "F32" || type === "F16" || type === "BF16"))
      throw new Error(`${name} is quantized already`);
    const tensor: DenseTensor = { type, shape, data: await checkpoint.read(name) };
    const isLinear = ["linear", "expert", "head"].includes(weight.role);
    if (quantized && isLinear) {
      const values = widen(tensor);
      const coded = quantizer
        ? await quantizer.quantize(quantized, values, { shape })
        : quantize(quantized, values, { shape });
      await session.place(index, decoded ? denseOf(dequantize(coded), shape) : coded);
    } else {
      await session.place(index, tensor);
    }
  }
  await checkpoint.close();
  return { model: new LanguageModel(program, session, { cachePositions: positions }), session };
}

/** Opens a folder the way a loaded model is, without its tokenizer: a plan, and every tensor placed as it says. */
export async function placeFolder(
  folder: string,
  backend: Backend,
  type: IsqType | null,
  cachePositions = 64,
) {
  const { program, checkpoint, sourceOf } = await openModel(await openDirectory(folder));
  try {
    const session = await backend.open(program, { cachePositions });
    const report = await placeModel(plan(program, sourceOf, { type }), checkpoint, backend, session);
    return { model: new LanguageModel(program, session, { cachePositions }), session, report };
  } finally {
    await checkpoint.close();
  }
}

function denseOf(values: Float32Array, shape: readonly number[]): DenseTensor {
  return { type: "F32", shape, data: new Uint8Array(values.buffer) };
}

/** Largest absolute difference of two arrays of one length. */
export function largestDifference(a: Float32Array, b: Float32Array): number {
  let most = a.length === b.length ? 0 : Number.POSITIVE_INFINITY;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i] - b[i]));
  return most;
}

/** The bits of an array, for comparisons that tell 0 from -0. */
export function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** How many values differ in a bit from those with the bits `expected`; infinite where the lengths differ. */
export function differingBits(values: Float32Array, expected: Uint32Array): number {
  if (values.length !== expected.length) return Number.POSITIVE_INFINITY;
  return bits(values).reduce((count, word, i) => count + (word === expected[i] ? 0 : 1), 0);
}

/** Root mean square of the difference over that of `expected`. */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  let noise = 0;
  let signal = 0;
  for (let i = 0; i < expected.length; i++) {
    noise += (actual[i] - expected[i]) ** 2;
    signal += expected[i] ** 2;
  }
  return Math.sqrt(noise / signal);
}
