// Q8_0: x ≈ d·q. Also the activations of Q4_0, Q5_0 and Q8_0.

import { Q8_0 } from "./dot32";
import { matmulTiles32 } from "./tile32";
import { LARGEST, SMALLEST, signedPeak, storeDecoded } from "./block32";
import { loadHalf, storeHalf } from "./f16";
import { packSignedBytes, roundAway } from "./lanes";

export const Q8_0_BLOCK_ELEMENTS: i32 = 32;
export const Q8_0_BLOCK_BYTES: i32 = 34;
const D: usize = 0;
const QS: usize = 2;

/** Writes 32 codes at `codes`, returns the unrounded scale. Shared with Q8_1. */
// @ts-ignore: decorator
@inline
export function encodeBytes32(x: usize, codes: usize, saturate: bool): f32 {
  const peak = abs<f32>(signedPeak(x, 32));
  const d = peak / 127;
  const id: f32 = d != 0 ? <f32>1 / d : 0;
  if ((peak < SMALLEST && peak != 0) || peak > LARGEST) {
    scalarBytes(x, id, codes, saturate);
    return d;
  }
  const ids = f32x4.splat(id);
  v128.store(codes, roundedBytes(x, ids));
  v128.store(codes, roundedBytes(x + 64, ids), 16);
  return d;
}

/** Nearest, ties away from zero, of 16 products in -127..127. */
// @ts-ignore: decorator
@inline
function roundedBytes(x: usize, id: v128): v128 {
  return packSignedBytes(
    rounded(v128.load(x), id),
    rounded(v128.load(x, 16), id),
    rounded(v128.load(x, 32), id),
    rounded(v128.load(x, 48), id),
  );
}

// @ts-ignore: decorator
@inline
function rounded(x: v128, id: v128): v128 {
  return i32x4.sub(f32x4.add(roundAway(f32x4.mul(x, id)), f32x4.splat(12582912)), i32x4.splat(0x4b400000));
}

/** ggml's conversion of an out-of-range value keeps the low byte (0 outside of int32), candle's saturates. */
function scalarBytes(x: usize, id: f32, codes: usize, saturate: bool): void {
  for (let i: usize = 0; i < 32; i++) {
    const v = load<f32>(x + (i << 2)) * id;
    const r = trunc<f32>(v + copysign<f32>(reinterpret<f32>(0x3effffff), v));
    let q: i32;
    if (saturate) q = max<i32>(-128, min<i32>(127, <i32>r));
    else q = r >= -2147483648.0 && r < 2147483648.0 ? <i32>r : 0;
    store<u8>(codes + i, q);
  }
}

function encode(src: usize, dst: usize, count: i32, saturate: bool): void {
  for (const end = src + (<usize>count << 2); src < end; src += 128, dst += 34) {
    storeHalf(dst + D, encodeBytes32(src, dst + QS, saturate));
  }
}

export function q8_0_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  encode(src, dst, rows * width, false);
  return 0;
}

export function q8_0_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  encode(src, dst, rows * width, true);
  return 0;
}

export function q8_0_dequantize(src: usize, dst: usize, count: i32): void {
  for (const end = dst + (<usize>count << 2); dst < end; src += 34, dst += 128) {
    const d = f32x4.splat(loadHalf(src + D));
    storeDecoded(v128.load(src, QS), d, d, false, dst);
    storeDecoded(v128.load(src, QS + 16), d, d, false, dst + 64);
  }
}

export function q8_0_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTiles32(weights, activations, out, outputs, rows, width, outStride, Q8_0, 34);
}
