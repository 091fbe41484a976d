/** Choosing the next token from its logits. Deterministic: the same seed and logits give the same tokens everywhere. */

import { IsqError } from "../errors.js";
import { type LogitKernels, scalarLogits } from "./logits.js";

/** Picks a token id from one row of logits. A seeded one advances its generator by one number per call. */
export type Sampler = (logits: Float32Array) => number;

export interface SamplerOptions {
  /** 0 (default) takes the largest logit; otherwise logits are divided by it. */
  readonly temperature?: number;
  /** Only this many of the largest logits stay in. */
  readonly topK?: number;
  /** Of these, the shortest list from the likeliest on whose probabilities sum to at least this. */
  readonly topP?: number;
  /** Integer from 0 to 2^53 - 1; 0 when absent. */
  readonly seed?: number;
}

/** The largest logit, the lowest id among equals. Throws `values/non-finite` for NaN. */
export function pickLargest(logits: Float32Array, kernels: LogitKernels = scalarLogits): number {
  const best = kernels.largest(logits);
  if (best < 0) throw notANumber(logits.findIndex(Number.isNaN));
  return best;
}

/**
 * Makes a sampler. Throws `option/invalid` naming the option and its limits.
 * @param kernels The backend's, where it has some: they change the speed and no token.
 */
export function createSampler(options: SamplerOptions = {}, kernels: LogitKernels = scalarLogits): Sampler {
  const { temperature = 0, topK, topP, seed = 0 } = options;
  checkOption(
    "temperature",
    temperature,
    Number.isFinite(temperature) && temperature >= 0,
    "a number from 0",
  );
  checkOption(
    "topK",
    topK,
    topK === undefined || (Number.isSafeInteger(topK) && topK >= 1),
    "an integer from 1",
  );
  checkOption("topP", topP, topP === undefined || (topP > 0 && topP <= 1), "above 0, at most 1");
  checkOption("seed", seed, Number.isSafeInteger(seed) && seed >= 0, "an integer from 0 to 2^53 - 1");
  if (temperature === 0) return (logits) => pickLargest(logits, kernels);
  const random = createRandom(seed);
  return (logits) => {
    const most = logits[pickLargest(logits, kernels)];
    const weights = kernels.weights(logits, most, temperature);
    return drawToken(logits, weights, topK ?? logits.length, topP ?? 1, random());
  };
}

/** Draws from the truncated distribution with `point` in [0, 1). All sums run in candidate order, in binary64. */
function drawToken(
  logits: Float32Array,
  weights: Float32Array,
  topK: number,
  topP: number,
  point: number,
): number {
  const ids = Int32Array.from(logits, (_, id) => id);
  const ranked = topK < ids.length || topP < 1;
  // Likeliest first, lower ids first among equals; without truncation the order does not matter and stays by id.
  if (ranked) ids.sort((a, b) => logits[b] - logits[a] || a - b);
  const kept = shortestHead(ids.subarray(0, topK), weights, topP);
  let left = point * sumOf(kept, weights);
  for (const id of kept) {
    left -= weights[id];
    if (left < 0) return id;
  }
  return kept[kept.length - 1];
}

function shortestHead(ids: Int32Array, weights: Float32Array, topP: number): Int32Array {
  if (topP >= 1) return ids;
  const enough = topP * sumOf(ids, weights);
  let sum = 0;
  let count = 0;
  while (count < ids.length && sum < enough) sum += weights[ids[count++]];
  return ids.subarray(0, Math.max(1, count));
}

function sumOf(ids: Int32Array, weights: Float32Array): number {
  let sum = 0;
  for (const id of ids) sum += weights[id];
  return sum;
}

/**
 * Uniform numbers in [0, 1) with 53 bits: the n-th 32-bit word (n = 1, 2, …) is fmix32(key + n · 0x9e3779b9), the
 * finalizer of MurmurHash3 (public domain, Austin Appleby) over a Weyl sequence; each number takes two words, the upper
 * 27 bits of the first and the upper 26 of the second. key = fmix32(seed mod 2^32) xor ⌊seed / 2^32⌋.
 */
export function createRandom(seed: number): () => number {
  let state = (mixBits(seed >>> 0) ^ Math.floor(seed / 2 ** 32)) >>> 0;
  const nextWord = () => {
    state = (state + 0x9e3779b9) >>> 0;
    return mixBits(state);
  };
  return () => {
    const high = nextWord() >>> 5;
    const low = nextWord() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  };
}

function mixBits(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function checkOption(field: string, value: unknown, valid: boolean, limit: string): void {
  if (!valid)
    throw new IsqError("option/invalid", `${field} must be ${limit}, not ${value}`, { field, value, limit });
}

function notANumber(id: number): IsqError {
  return new IsqError("values/non-finite", `the logit of token ${id} is not a number`, {
    field: "logits",
    value: "NaN",
    index: id,
  });
}
