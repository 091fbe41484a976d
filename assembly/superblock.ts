// What the K types share: weights in lanes, the last re-coding, picking the largest scale.

import { codeInts, packBytes, packSignedBytes } from "./lanes";
import { FIT_ISCALE, FIT_LOW, FIT_MIN, FIT_SCALE, W_A, W_B, X_A, X_B } from "./memory";

export const SUPER_BLOCK_BYTES: usize = 1024;

/** Turns the transposed importance in W into weights: importance · sqrt(sigma2 + x·x). */
// @ts-ignore: decorator
@inline
export function weighOctet(n: usize, sigma2: f32): void {
  const sigma = f32x4.splat(sigma2);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const a = v128.load(X_A + i);
    const b = v128.load(X_B + i);
    v128.store(W_A + i, f32x4.mul(v128.load(W_A + i), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(a, a)))));
    v128.store(W_B + i, f32x4.mul(v128.load(W_B + i), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(b, b)))));
  }
}

/** Largest of `count` floats, 0 when none is positive. */
export function largestOf(values: usize, count: i32): f32 {
  let largest: f32 = 0;
  for (const end = values + (<usize>count << 2); values < end; values += 4) {
    const v = load<f32>(values);
    if (v > largest) largest = v;
  }
  return largest;
}

/** The scale of largest magnitude in the sixteen at `values`, with its sign, the first of several; NaN never wins. */
export function peakScale(values: usize): f32 {
  let peak: f32 = 0;
  for (const end = values + 64; values < end; values += 4) {
    const v = load<f32>(values);
    if (abs<f32>(v) > abs<f32>(peak)) peak = v;
  }
  return peak;
}

/**
 * Sixteen codes under a decoded scale and minimum: clamp(round((x + min) / scale), 0, N). Under a scale of zero ggml
 * keeps the codes of the search, made again from what FIT has at `fit`; candle's are 0.
 */
// @ts-ignore: decorator
@inline
export function recodeAffine(x: usize, scale: f32, min: f32, N: i32, fit: usize, candle: bool): v128 {
  if (scale == 0) return candle ? i8x16.splat(0) : fittedAffine(x, N, fit);
  const d = f32x4.splat(scale);
  const m = f32x4.splat(min);
  return packBytes(
    codeInts(f32x4.div(f32x4.add(v128.load(x), m), d), 0, N, candle),
    codeInts(f32x4.div(f32x4.add(v128.load(x, 16), m), d), 0, N, candle),
    codeInts(f32x4.div(f32x4.add(v128.load(x, 32), m), d), 0, N, candle),
    codeInts(f32x4.div(f32x4.add(v128.load(x, 48), m), d), 0, N, candle),
  );
}

/** Sixteen codes of the candidate that an affine search (ggml's) kept. */
export function fittedAffine(x: usize, N: i32, fit: usize): v128 {
  const iscale = v128.load32_splat(FIT_ISCALE + fit);
  const low = v128.load32_splat(FIT_LOW + fit);
  return packBytes(
    codeInts(f32x4.mul(iscale, f32x4.sub(v128.load(x), low)), 0, N, false),
    codeInts(f32x4.mul(iscale, f32x4.sub(v128.load(x, 16), low)), 0, N, false),
    codeInts(f32x4.mul(iscale, f32x4.sub(v128.load(x, 32), low)), 0, N, false),
    codeInts(f32x4.mul(iscale, f32x4.sub(v128.load(x, 48), low)), 0, N, false),
  );
}

/** Sixteen codes under a decoded scale that is not zero: clamp(round(x / scale), -N, N-1) + N. */
// @ts-ignore: decorator
@inline
export function recodeSymmetric(x: usize, scale: f32, N: i32, candle: bool): v128 {
  const d = f32x4.splat(scale);
  const values = packSignedBytes(
    codeInts(f32x4.div(v128.load(x), d), -N, N - 1, candle),
    codeInts(f32x4.div(v128.load(x, 16), d), -N, N - 1, candle),
    codeInts(f32x4.div(v128.load(x, 32), d), -N, N - 1, candle),
    codeInts(f32x4.div(v128.load(x, 48), d), -N, N - 1, candle),
  );
  return i8x16.add(values, i8x16.splat(<i8>N));
}

/** Sixteen codes of the candidate that QX (ggml's) kept: all 0 in a sub-block it did not search. */
export function fittedSymmetric(x: usize, N: i32, fit: usize): v128 {
  const iscale = v128.load32_splat(FIT_ISCALE + fit);
  const values = packSignedBytes(
    codeInts(f32x4.mul(iscale, v128.load(x)), -N, N - 1, false),
    codeInts(f32x4.mul(iscale, v128.load(x, 16)), -N, N - 1, false),
    codeInts(f32x4.mul(iscale, v128.load(x, 32)), -N, N - 1, false),
    codeInts(f32x4.mul(iscale, v128.load(x, 48)), -N, N - 1, false),
  );
  return v128.and(i8x16.add(values, i8x16.splat(<i8>N)), v128.load32_splat(FIT_LOW + fit));
}

/** Sixteen codes of sub-block `j` that a search left in `l` as floats: halves of four lanes, octets 1024 bytes apart. */
export function storedCodes(l: usize, j: i32): v128 {
  let p = l + (<usize>(j >> 3) << 10) + (<usize>((j >> 2) & 1) << 9) + (<usize>(j & 3) << 2);
  let codes = i8x16.splat(0);
  for (let i = 0; i < 16; i++, p += 16) {
    // Shifts the sixteen bytes down by one and enters the new one at the top.
    codes = i8x16.replace_lane(v128.shuffle<i8>(codes, codes, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0), 15, <i8>load<f32>(p));
  }
  return codes;
}

/** Scale and minimum of sub-block `j`, as the plain encoders read them. */
// @ts-ignore: decorator
@inline
export function fitScale(j: usize): f32 {
  return load<f32>(FIT_SCALE + (j << 2));
}

// @ts-ignore: decorator
@inline
export function fitMin(j: usize): f32 {
  return load<f32>(FIT_MIN + (j << 2));
}

/** A stored binary16 that is NaN: candle's unguarded divisions can leave one. */
// @ts-ignore: decorator
@inline
export function isNanHalf(address: usize): bool {
  return (load<u16>(address) & 0x7fff) > 0x7c00;
}
