// Steps that every kernel repeats in four lanes. All are exact twins of src/numerics.ts.

/** 1.5·2^23: added to a float of magnitude under 2^22 it leaves the nearest integer, ties to even, in the low bits. */
export const MAGIC: f32 = 12582912;
const MAGIC_BITS: i32 = 0x4b400000;
/** The largest float under 0.5: v + copysign(this, v), truncated, is "nearest, ties away from zero". */
const UNDER_HALF: i32 = 0x3effffff;

/** ggml's nearest integer, for every v: the low bits of v + MAGIC, whatever v is. */
// @ts-ignore: decorator
@inline
export function nearestInts(v: v128): v128 {
  return i32x4.sub(v128.and(f32x4.add(v, f32x4.splat(MAGIC)), i32x4.splat(0x7fffff)), i32x4.splat(0x400000));
}

/** The same for one value. */
// @ts-ignore: decorator
@inline
export function nearestInt(v: f32): i32 {
  return (reinterpret<i32>(v + MAGIC) & 0x7fffff) - 0x400000;
}

/** clamp(nearest(v), low, high) as floats, for |v| < 2^22. */
// @ts-ignore: decorator
@inline
export function nearestClamped(v: v128, low: i32, high: i32): v128 {
  const bits = f32x4.add(v, f32x4.splat(MAGIC));
  const clamped = i32x4.min_s(i32x4.max_s(bits, i32x4.splat(MAGIC_BITS + low)), i32x4.splat(MAGIC_BITS + high));
  return f32x4.sub(clamped, f32x4.splat(MAGIC));
}

/** Nearest, ties away from zero, as floats; NaN stays. */
// @ts-ignore: decorator
@inline
export function roundAway(v: v128): v128 {
  const half = v128.or(v128.and(v, i32x4.splat(0x80000000)), i32x4.splat(UNDER_HALF));
  return f32x4.trunc(f32x4.add(v, half));
}

/** Rust's `round() as i32` of one value: saturated, NaN gives 0. */
// @ts-ignore: decorator
@inline
export function roundAwayInt(v: f32): i32 {
  return <i32>(v + copysign<f32>(reinterpret<f32>(UNDER_HALF), v));
}

/**
 * clamp(round(v), low, high) as floats for any v: ggml's rule, or candle's (`away`: ties away from zero, NaN gives 0).
 * low ≤ 0 ≤ high.
 */
// @ts-ignore: decorator
@inline
export function codeLanes(v: v128, low: i32, high: i32, away: bool): v128 {
  if (away) {
    const r = roundAway(v);
    const clamped = f32x4.pmin(f32x4.splat(<f32>high), f32x4.pmax(f32x4.splat(<f32>low), r));
    return low == 0 ? clamped : v128.and(clamped, f32x4.eq(v, v));
  }
  const l = i32x4.min_s(i32x4.max_s(nearestInts(v), i32x4.splat(low)), i32x4.splat(high));
  return f32x4.convert_i32x4_s(l);
}

/** The same as integers. */
// @ts-ignore: decorator
@inline
export function codeInts(v: v128, low: i32, high: i32, away: bool): v128 {
  if (away) {
    // After clamping the value is a small integer: adding MAGIC is exact and its low bits are the integer.
    return i32x4.sub(f32x4.add(codeLanes(v, low, high, true), f32x4.splat(MAGIC)), i32x4.splat(MAGIC_BITS));
  }
  return i32x4.min_s(i32x4.max_s(nearestInts(v), i32x4.splat(low)), i32x4.splat(high));
}

/** Four vectors of small integers (0..255, or -128..127 kept as bytes) to sixteen bytes. */
// @ts-ignore: decorator
@inline
export function packBytes(a: v128, b: v128, c: v128, d: v128): v128 {
  return i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
}

// @ts-ignore: decorator
@inline
export function packSignedBytes(a: v128, b: v128, c: v128, d: v128): v128 {
  return i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
}

/** Stores the transpose of four vectors at `out`, `out + 16`, …: lane k of vector i becomes lane i of vector k. */
// @ts-ignore: decorator
@inline
export function storeTransposed(a: v128, b: v128, c: v128, d: v128, out: usize): void {
  const ab0 = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const ab1 = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cd0 = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const cd1 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(out, v128.shuffle<i64>(ab0, cd0, 0, 2));
  v128.store(out, v128.shuffle<i64>(ab0, cd0, 1, 3), 16);
  v128.store(out, v128.shuffle<i64>(ab1, cd1, 0, 2), 32);
  v128.store(out, v128.shuffle<i64>(ab1, cd1, 1, 3), 48);
}

/**
 * Transposes eight sub-blocks of `n` floats, `stride` bytes apart from `src`, into halves A and B at `out` and
 * `out + 512`: vector i of a half holds element i of its four sub-blocks.
 */
export function transposeOctet(src: usize, stride: usize, n: i32, out: usize): void {
  for (let half = 0; half < 2; half++, src += stride << 2, out += 512) {
    for (let i: usize = 0; i < <usize>n << 2; i += 16) {
      const p = src + i;
      storeTransposed(
        v128.load(p),
        v128.load(p + stride),
        v128.load(p + stride * 2),
        v128.load(p + stride * 3),
        out + (i << 2),
      );
    }
  }
}

/** The largest and smallest of four lanes. */
// @ts-ignore: decorator
@inline
export function largestLane(v: v128): f32 {
  const pair = f32x4.pmax(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmax(pair, v128.shuffle<i32>(pair, pair, 1, 0, 3, 2)), 0);
}

// @ts-ignore: decorator
@inline
export function smallestLane(v: v128): f32 {
  const pair = f32x4.pmin(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmin(pair, v128.shuffle<i32>(pair, pair, 1, 0, 3, 2)), 0);
}

/** sum, + lane 0, + lane 1, + lane 2, + lane 3 of the k-th vector, in lane k. Starting from -0 adds nothing to the first. */
// @ts-ignore: decorator
@inline
export function addAcross(sum: v128, a: v128, b: v128, c: v128, d: v128): v128 {
  const ab0 = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const ab1 = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cd0 = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const cd1 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  sum = f32x4.add(sum, v128.shuffle<i64>(ab0, cd0, 0, 2));
  sum = f32x4.add(sum, v128.shuffle<i64>(ab0, cd0, 1, 3));
  sum = f32x4.add(sum, v128.shuffle<i64>(ab1, cd1, 0, 2));
  return f32x4.add(sum, v128.shuffle<i64>(ab1, cd1, 1, 3));
}
