/** What the K types share: walking a row of 256-element super-blocks, their importance weights, the last re-coding. */

import { clampInt, f32, readU16 } from "../numerics.js";
import { GGML, importanceWeights, type Lineage, MISTRALRS, sumOf, sumOfSquares } from "./search.js";
import type { AffineFit } from "./search-affine.js";
import type { Algorithm } from "./table.js";

export const SUPER_BLOCK = 256;

export function lineageOf(algorithm: Algorithm): Lineage {
  return algorithm === "ggml" ? GGML : MISTRALRS;
}

/**
 * Encodes a row super-block by super-block. Rule of this project for candle's unguarded divisions: a `mistralrs` block
 * that importance leaves with a NaN in one of the f16 fields at `scaleOffsets` is encoded again without importance.
 * Returns how many were.
 */
export function encodeSuperBlocks(
  algorithm: Algorithm,
  values: Float32Array,
  importance: Float32Array | undefined,
  out: Uint8Array,
  blockBytes: number,
  scaleOffsets: readonly number[],
  encode: (
    lineage: Lineage,
    x: Float32Array,
    importance: Float32Array | undefined,
    block: Uint8Array,
  ) => void,
): number {
  const lineage = lineageOf(algorithm);
  let reencoded = 0;
  for (let b = 0; b < values.length / SUPER_BLOCK; b++) {
    const x = values.subarray(b * SUPER_BLOCK, (b + 1) * SUPER_BLOCK);
    const block = out.subarray(b * blockBytes, (b + 1) * blockBytes);
    encode(lineage, x, importance?.subarray(b * SUPER_BLOCK, (b + 1) * SUPER_BLOCK), block);
    if (lineage === GGML || !importance) continue;
    if (scaleOffsets.some((offset) => (readU16(block, offset) & 0x7fff) > 0x7c00)) {
      block.fill(0);
      encode(lineage, x, undefined, block);
      reencoded++;
    }
  }
  return reencoded;
}

/** The weights of a super-block under importance, with `factor`·mean square as sigma2, and their sum per sub-block. */
export function superBlockWeights(
  x: Float32Array,
  importance: Float32Array,
  factor: 1 | 2,
  subBlock: number,
): { weights: Float32Array; sums: Float32Array } {
  const sigma2 = f32(f32(factor * sumOfSquares(x)) / SUPER_BLOCK);
  const weights = importanceWeights(x, importance, sigma2);
  const sums = new Float32Array(SUPER_BLOCK / subBlock);
  for (let j = 0; j < sums.length; j++) sums[j] = sumOf(weights.subarray(j * subBlock, (j + 1) * subBlock));
  return { weights, sums };
}

/** The scale of largest magnitude, with its sign, the first of several; NaN never wins. */
export function peakScale(scales: Float32Array): number {
  let peak = 0;
  for (const scale of scales) if (Math.abs(scale) > Math.abs(peak)) peak = scale;
  return peak;
}

/** The largest scale and the largest minimum of affine sub-blocks; 0 when none is positive. */
export function largestFit(fits: readonly AffineFit[]): AffineFit {
  let scale = 0;
  let min = 0;
  for (const fit of fits) {
    if (fit.scale > scale) scale = fit.scale;
    if (fit.min > min) min = fit.min;
  }
  return { scale, min };
}

/**
 * Codes of a sub-block under its decoded scale and minimum: clamp(round((x + min) / scale), 0, N). A scale of zero keeps
 * the codes that are there: the search's in ggml, zeros in candle (callers clear them).
 */
export function recodeAffine(
  x: Float32Array,
  scale: number,
  min: number,
  N: number,
  codes: Uint8Array,
  lineage: Lineage,
): void {
  if (scale === 0) return;
  for (let i = 0; i < x.length; i++) {
    codes[i] = clampInt(lineage.round(f32(f32(x[i] + min) / scale)), 0, N);
  }
}

/** As {@link recodeAffine} for codes around N: clamp(round(x / scale), -N, N-1) + N. */
export function recodeSymmetric(
  x: Float32Array,
  scale: number,
  N: number,
  codes: Uint8Array,
  lineage: Lineage,
): void {
  if (scale === 0) return;
  for (let i = 0; i < x.length; i++) codes[i] = clampInt(lineage.round(f32(x[i] / scale)), -N, N - 1) + N;
}

/** Adds scale·Σ value·activation of one sub-block to the eight integer lanes; element i belongs to lane i mod 8. */
export function addToLanes(
  lanes: Int32Array,
  scale: number,
  values: Int8Array,
  valuesAt: number,
  activations: Int8Array,
  activationsAt: number,
  count: number,
): void {
  for (let l = 0; l < 8; l++) {
    let part = 0;
    for (let i = l; i < count; i += 8) part += values[valuesAt + i] * activations[activationsAt + i];
    lanes[l] += scale * part;
  }
}

/** Adds d·t_l of one super-block to the eight binary32 lane sums and clears the integers. */
export function foldLanes(sums: Float32Array, lanes: Int32Array, d: number): void {
  for (let l = 0; l < 8; l++) sums[l] = f32(sums[l] + f32(d * f32(lanes[l])));
  lanes.fill(0);
}

/** The end of the dot products with eight lane sums: start + S_0, + S_1 … (ggml), or ΣS first (candle). */
export function addLanes(start: number, lanes: Float32Array, order: "ggml" | "mistralrs"): number {
  let sum = order === "ggml" ? start : 0;
  for (const lane of lanes) sum = f32(sum + lane);
  return order === "ggml" ? sum : f32(start + sum);
}
