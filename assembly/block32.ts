// What the types with blocks of 32 share: peak and range of a block, codes by truncation, packing.
//
// A maximum is not a sum: it has no order, so here the lanes run inside the block. What has an order is which of several
// equal extremes gives its sign; those ties are found afterwards, by a scalar scan that ordinary data never needs.

import { packBytes } from "./lanes";

/** Blocks whose peak or range lies outside are encoded by the scalar path: there 1/d or a difference overflows. */
export const SMALLEST: f32 = 1e-30;
export const LARGEST: f32 = 1e30;

/** The element of largest magnitude with its sign, the first of several. 0 for an all-zero block. */
export function signedPeak(x: usize, count: i32): f32 {
  let high = v128.load(x);
  let low = high;
  for (let i: usize = 16; i < <usize>count << 2; i += 16) {
    const v = v128.load(x + i);
    high = f32x4.pmax(high, v);
    low = f32x4.pmin(low, v);
  }
  high = f32x4.pmax(high, v128.shuffle<i32>(high, high, 2, 3, 0, 1));
  low = f32x4.pmin(low, v128.shuffle<i32>(low, low, 2, 3, 0, 1));
  high = f32x4.pmax(high, v128.shuffle<i32>(high, high, 1, 0, 3, 2));
  low = f32x4.pmin(low, v128.shuffle<i32>(low, low, 1, 0, 3, 2));
  const p = f32x4.extract_lane(high, 0);
  const q = -f32x4.extract_lane(low, 0);
  if (p > q) return p;
  if (p < q) return -q;
  if (p == 0) return 0;
  for (let i: usize = 0; i < <usize>count << 2; i += 4) {
    const v = load<f32>(x + i);
    if (abs<f32>(v) == p) return v;
  }
  return 0;
}

/** min, with the sign of the first zero where the minimum is zero. */
// @ts-ignore: decorator
@inline
export function firstMinimum(x: usize, min: f32): f32 {
  if (min == 0) {
    for (let i: usize = 0; i < 128; i += 4) if (load<f32>(x + i) == 0) return load<f32>(x + i);
  }
  return min;
}

/** Truncated codes (all in 0..255) of 16 elements: trunc(((x - min)·id) + half) or trunc((x·id) + half). */
// @ts-ignore: decorator
@inline
export function truncatedBytes(x: usize, min: v128, id: v128, half: v128, affine: bool): v128 {
  return packBytes(
    truncated(v128.load(x), min, id, half, affine),
    truncated(v128.load(x, 16), min, id, half, affine),
    truncated(v128.load(x, 32), min, id, half, affine),
    truncated(v128.load(x, 48), min, id, half, affine),
  );
}

/** trunc by roundps and the magic sum: i32x4.trunc_sat costs a fix-up sequence on x64. The low 16 bits are the code. */
// @ts-ignore: decorator
@inline
function truncated(x: v128, min: v128, id: v128, half: v128, affine: bool): v128 {
  const centred = affine ? f32x4.sub(x, min) : x;
  const whole = f32x4.trunc(f32x4.add(f32x4.mul(centred, id), half));
  return v128.and(f32x4.add(whole, f32x4.splat(8388608)), i32x4.splat(0xff));
}

/**
 * One code of the scalar path. ggml converts as x86-64 does (out of int32's range: 0; otherwise the low byte, signed for
 * `signed`) and clamps from above where the type does; candle saturates.
 */
function scalarCode(v: f32, largest: i32, signed: bool, clamped: bool, saturate: bool): i32 {
  if (saturate) return min<i32>(largest, max<i32>(0, <i32>v));
  const whole = v >= -2147483648.0 && v < 2147483648.0 ? <i32>v & 255 : 0;
  const byte = signed ? (whole << 24) >> 24 : whole;
  return (clamped ? min<i32>(largest, byte) : byte) & 255;
}

/** The scalar path of a whole block of codes, into 32 bytes at `codes`. */
export function scalarCodes(
  x: usize,
  min: f32,
  id: f32,
  half: f32,
  affine: bool,
  largest: i32,
  saturate: bool,
  codes: usize,
): void {
  const q51 = affine && largest == 31;
  for (let i: usize = 0; i < 32; i++) {
    const v = load<f32>(x + (i << 2));
    const scaled = (affine ? v - min : v) * id + half;
    store<u8>(codes + i, scalarCode(scaled, largest, !q51, !q51, saturate));
  }
}

/** Low nibbles of 32 codes (two vectors) to 16 bytes. */
// @ts-ignore: decorator
@inline
export function nibblesOf(low: v128, high: v128): v128 {
  const mask = i8x16.splat(15);
  return v128.or(v128.and(low, mask), i8x16.shl(v128.and(high, mask), 4));
}

/** Bit 4 of 32 codes as a word. */
// @ts-ignore: decorator
@inline
export function fifthBits(low: v128, high: v128): i32 {
  return i8x16.bitmask(i8x16.shl(low, 3)) | (i8x16.bitmask(i8x16.shl(high, 3)) << 16);
}

/** The inverse: 16 in the bytes whose bit is set; `half` 0 for elements 0..15, 1 for 16..31. */
// @ts-ignore: decorator
@inline
export function fifthBytes(word: i32, half: i32): v128 {
  const spread = i8x16.swizzle(
    i32x4.splat(word),
    half == 0
      ? i8x16(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
      : i8x16(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3),
  );
  const bit = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  return v128.and(i8x16.eq(v128.and(spread, bit), bit), i8x16.splat(16));
}

/** Sixteen signed bytes times d, plus m (or nothing), to 16 floats. */
// @ts-ignore: decorator
@inline
export function storeDecoded(values: v128, d: v128, m: v128, affine: bool, out: usize): void {
  const low = i16x8.extend_low_i8x16_s(values);
  const high = i16x8.extend_high_i8x16_s(values);
  v128.store(out, decoded(i32x4.extend_low_i16x8_s(low), d, m, affine));
  v128.store(out, decoded(i32x4.extend_high_i16x8_s(low), d, m, affine), 16);
  v128.store(out, decoded(i32x4.extend_low_i16x8_s(high), d, m, affine), 32);
  v128.store(out, decoded(i32x4.extend_high_i16x8_s(high), d, m, affine), 48);
}

// @ts-ignore: decorator
@inline
function decoded(value: v128, d: v128, m: v128, affine: bool): v128 {
  const product = f32x4.mul(f32x4.convert_i32x4_s(value), d);
  return affine ? f32x4.add(product, m) : product;
}
