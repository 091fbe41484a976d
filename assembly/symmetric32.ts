// The plain encoder of Q4_0 (N = 8) and Q5_0 (N = 16): x ≈ d·(code - N).

import { LARGEST, SMALLEST, nibblesOf, fifthBits, scalarCodes, signedPeak, truncatedBytes } from "./block32";
import { storeHalf } from "./f16";
import { CODES } from "./memory";

// @ts-ignore: decorator
@inline
export function encodeSymmetric32(x: usize, block: usize, N: i32, saturate: bool): void {
  const peak = signedPeak(x, 32);
  const d = peak / <f32>-N;
  const id: f32 = d != 0 ? <f32>1 / d : 0;
  storeHalf(block, d);
  const half: f32 = <f32>N + 0.5;
  const magnitude = abs<f32>(peak);
  if ((magnitude < SMALLEST && magnitude != 0) || magnitude > LARGEST) {
    scalarCodes(x, 0, id, half, false, 2 * N - 1, saturate, CODES);
    storeSymmetric32(v128.load(CODES), v128.load(CODES, 16), block, N);
    return;
  }
  const ids = f32x4.splat(id);
  const halves = f32x4.splat(half);
  const largest = i8x16.splat(<i8>(2 * N - 1));
  const low = i8x16.min_u(truncatedBytes(x, ids, ids, halves, false), largest);
  const high = i8x16.min_u(truncatedBytes(x + 64, ids, ids, halves, false), largest);
  storeSymmetric32(low, high, block, N);
}

/** Packs 32 codes behind the scale. */
// @ts-ignore: decorator
@inline
export function storeSymmetric32(low: v128, high: v128, block: usize, N: i32): void {
  if (N == 16) {
    store<i32>(block, fifthBits(low, high), 2);
    v128.store(block, nibblesOf(low, high), 6);
  } else {
    v128.store(block, nibblesOf(low, high), 2);
  }
}
