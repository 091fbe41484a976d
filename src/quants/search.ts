/**
 * What the scale searches share (search-symmetric.ts, search-affine.ts). Two lineages fill the same layouts: today's ggml, and what mistral.rs runs
 * through candle. Where both run the same search they differ in the rules below; where they run different searches the
 * function's name says whose it is. All sums run in index order with one accumulator; every step is one binary32
 * operation. Sources: ggml-org/ggml d99724f2 `ggml-quants.c`; huggingface/candle 35d7ae7c `quantized/utils.rs`.
 */

import { clampInt, f32, nearestInt, roundHalfAway } from "../numerics.js";

/** What the two lineages do differently inside a common search. */
export interface Lineage {
  /** Nearest integer of a candidate code. */
  readonly round: (v: number) => number;
  /** Weight times squared code: (w·l)·l, or w·(l·l). */
  readonly square: (w: number, l: number) => number;
  /** True for a block so small that it is stored as zero. */
  readonly isZero: (magnitude: number) => boolean;
  /** numerator / denominator at the end of a search; ggml guards against an empty denominator. */
  readonly ratio: (numerator: number, denominator: number) => number;
  /** Rounding to a byte in the scale-of-scales search. */
  readonly toByte: (v: number) => number;
  /** The same, in its final pass. */
  readonly toFinalByte: (v: number) => number;
}

const EPSILON = f32(1e-15);
export const TENTH = f32(0.1);

export const GGML: Lineage = {
  round: nearestInt,
  square: (w, l) => f32(f32(w * l) * l),
  isZero: (magnitude) => magnitude < EPSILON,
  ratio: (numerator, denominator) => (denominator > 0 ? f32(numerator / denominator) : 0),
  toByte: nearestInt,
  toFinalByte: nearestInt,
};

export const MISTRALRS: Lineage = {
  round: roundHalfAway,
  square: (w, l) => f32(w * (l * l)),
  isZero: (magnitude) => magnitude === 0,
  ratio: (numerator, denominator) => f32(numerator / denominator),
  toByte: (v) => roundHalfAway(v) & 255,
  toFinalByte: (v) => clampInt(roundHalfAway(v), 0, 255),
};

/** The element of largest magnitude, with its sign; the first of several equal ones. 0 for an all-zero block. */
export function signedPeak(x: Float32Array): number {
  let magnitude = 0;
  let peak = 0;
  for (let i = 0; i < x.length; i++) {
    const a = Math.abs(x[i]);
    if (a > magnitude) {
      magnitude = a;
      peak = x[i];
    }
  }
  return peak;
}

/** Σ x·x in index order. */
export function sumOfSquares(x: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum = f32(sum + f32(x[i] * x[i]));
  return sum;
}

/** Σ w in index order. */
export function sumOf(w: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < w.length; i++) sum = f32(sum + w[i]);
  return sum;
}

/** importance_i · sqrt(sigma2 + x_i·x_i): the weights of every importance-aware search but Q6_K's. */
export function importanceWeights(x: Float32Array, importance: Float32Array, sigma2: number): Float32Array {
  return x.map((v, i) => f32(importance[i] * f32(Math.sqrt(f32(sigma2 + f32(v * v))))));
}

/** x_i·x_i: the weights of a symmetric search without importance. */
export function squares(x: Float32Array): Float32Array {
  return x.map((v) => f32(v * v));
}
