/** Choosing the next token from its logits. Deterministic: the same seed and logits give the same tokens everywhere. */

import { IsqError } from "../errors.js";
import { type AdjustOptions, checkNumber, createAdjuster } from "./adjust.js";
import { drawToken } from "./draw.js";
import { type LogitKernels, scalarLogits } from "./logits.js";

/** Picks a token id from one row of logits, which it leaves as they are. It remembers what it picked. */
export type Sampler = (logits: Float32Array) => number;

/** Options that apply in this order: penalties and bias, temperature, top-k, top-p, min-p. */
export interface SamplerOptions extends AdjustOptions {
  /** 0 (default) takes the largest logit; otherwise logits are divided by it. */
  readonly temperature?: number;
  /** Only this many of the largest logits stay in. */
  readonly topK?: number;
  /** Of these, the shortest list from the likeliest on whose probabilities sum to at least this. */
  readonly topP?: number;
  /** Of these, the ones that are at least this times as likely as the likeliest. */
  readonly minP?: number;
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
 * Makes a sampler for one text. Throws `option/invalid` naming the option and its limits.
 * @param kernels The backend's, where it has some: they change the speed and no token.
 * @param prompt What the repetition penalty sees besides the tokens picked.
 */
export function createSampler(
  options: SamplerOptions = {},
  kernels: LogitKernels = scalarLogits,
  prompt: ArrayLike<number> = [],
): Sampler {
  const { temperature = 0, topK, topP, minP, seed = 0 } = options;
  checkNumber("temperature", temperature, temperature >= 0, "a number from 0");
  checkNumber("topK", topK, Number.isSafeInteger(topK) && topK! >= 1, "an integer from 1");
  checkNumber("topP", topP, topP! > 0 && topP! <= 1, "above 0, at most 1");
  checkNumber("minP", minP, minP! >= 0 && minP! <= 1, "from 0 to 1");
  checkNumber("seed", seed, Number.isSafeInteger(seed) && seed >= 0, "an integer from 0 to 2^53 - 1");
  const adjuster = createAdjuster(options, prompt);
  const random = createRandom(seed);
  return (raw) => {
    const logits = adjuster.adjust(raw);
    let token = pickLargest(logits, kernels);
    if (temperature > 0) {
      const weights = kernels.weights(logits, logits[token], temperature);
      token = drawToken(logits, weights, { topK, topP, minP }, random());
    }
    adjuster.note(token);
    return token;
  };
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

function notANumber(id: number): IsqError {
  return new IsqError("values/non-finite", `the logit of token ${id} is not a number`, {
    field: "logits",
    value: "NaN",
    index: id,
  });
}
