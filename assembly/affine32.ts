// The plain encoder of Q4_1 (N = 15) and Q5_1 (N = 31): x ≈ d·code + m.

import {
  LARGEST,
  SMALLEST,
  fifthBits,
  firstMinimum,
  nibblesOf,
  scalarCodes,
  truncatedBytes,
} from "./block32";
import { storeHalf } from "./f16";
import { largestLane, smallestLane } from "./lanes";
import { CODES } from "./memory";

// @ts-ignore: decorator
@inline
export function encodeAffine32(x: usize, block: usize, N: i32, saturate: bool): void {
  let highs = v128.load(x);
  let lows = highs;
  for (let i: usize = 16; i < 128; i += 16) {
    const v = v128.load(x + i);
    highs = f32x4.pmax(highs, v);
    lows = f32x4.pmin(lows, v);
  }
  const max = largestLane(highs);
  const min = firstMinimum(x, smallestLane(lows));
  const range = max - min;
  const d = range / <f32>N;
  const id: f32 = d != 0 ? <f32>1 / d : 0;
  storeHalf(block, d);
  storeHalf(block + 2, min);
  if ((range < SMALLEST && range != 0) || !(range <= LARGEST)) {
    scalarCodes(x, min, id, 0.5, true, N, saturate, CODES);
    storeAffine32(v128.load(CODES), v128.load(CODES, 16), block, N);
    return;
  }
  const mins = f32x4.splat(min);
  const ids = f32x4.splat(id);
  const halves = f32x4.splat(0.5);
  // Q5_1 has no clamp and needs none here: (max - min)·id is at most 31 and a few ulps.
  const largest = i8x16.splat(<i8>N);
  const low = i8x16.min_u(truncatedBytes(x, mins, ids, halves, true), largest);
  const high = i8x16.min_u(truncatedBytes(x + 64, mins, ids, halves, true), largest);
  storeAffine32(low, high, block, N);
}

/** Packs 32 codes behind scale and minimum. */
// @ts-ignore: decorator
@inline
export function storeAffine32(low: v128, high: v128, block: usize, N: i32): void {
  if (N == 31) {
    store<i32>(block, fifthBits(low, high), 4);
    v128.store(block, nibblesOf(low, high), 8);
  } else {
    v128.store(block, nibblesOf(low, high), 4);
  }
}
