/** Blocks for which ggml's C code has no defined result, so that no comparison means anything. */

import { f32 } from "../numerics.js";
import type { IsqType } from "../quants/index.js";

/**
 * True when the plain encoder of `type` leaves C's defined behaviour on this block: the 32-value types convert a float
 * out of range once 1/d or d overflows; Q2_K shifts a negative integer once 15 over its largest minimum overflows.
 */
export function isUndefined(type: IsqType, block: Float32Array): boolean {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of block) {
    if (v < min) min = v;
    if (v > max) max = v;
  }
  const peak = Math.max(Math.abs(min), Math.abs(max));
  const divisor = DIVISORS[type];
  if (divisor === undefined) return type === "Q2K" && peak > 0 && !Number.isFinite(f32(15 / peak));
  const d = f32((type === "Q4_1" || type === "Q5_1" ? f32(max - min) : peak) / divisor);
  return !Number.isFinite(d) || (d !== 0 && !Number.isFinite(f32(1 / d)));
}

/** What the block's magnitude or range is divided by to give d. */
const DIVISORS: Partial<Record<IsqType, number>> = {
  Q4_0: 8,
  Q4_1: 15,
  Q5_0: 16,
  Q5_1: 31,
  Q8_0: 127,
  Q8_1: 127,
};
