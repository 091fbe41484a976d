// Q2_K: x ≈ d·scale·code - dmin·min, 2-bit codes, 4-bit scales and minima for every 16 elements; see src/quants/q2_k.ts.

import { matvecK } from "./dot-k";
import { matmulTilesK } from "./tile-k";
import { loadHalf, storeHalf } from "./f16";
import { sumsOfSquares256 } from "./importance";
import { nearestInt, roundAwayInt, transposeOctet } from "./lanes";
import {
  BLOCK_D,
  BLOCK_DMIN,
  FIT_BLOCK,
  FIT_MIN,
  FIT_SCALE,
  FIT_SUMW,
  MIN_CODES,
  SCALE_CODES,
  W_A,
  W_B,
  X_A,
  X_B,
} from "./memory";
import { searchAffine } from "./search-affine";
import { searchAffineOld } from "./search-affine-old";
import { searchPositive } from "./search-positive";
import { fitMin, fitScale, isNanHalf, largestOf, recodeAffine, SUPER_BLOCK_BYTES, weighOctet } from "./superblock";

export const Q2K_BLOCK_ELEMENTS: i32 = 256;
export const Q2K_BLOCK_BYTES: i32 = 84;
const QS: usize = 16;
const D: usize = 80;
const DMIN: usize = 82;

/** Weights |x|. */
// @ts-ignore: decorator
@inline
function plainWeights(): void {
  for (let i: usize = 0; i < 256; i += 16) {
    v128.store(W_A + i, f32x4.abs(v128.load(X_A + i)));
    v128.store(W_B + i, f32x4.abs(v128.load(X_B + i)));
  }
}

/** Byte codes of scales and minima; the low nibble takes a whole byte, the high one what is left of it. */
// @ts-ignore: decorator
@inline
function plainScales(candle: bool): void {
  const scale = largestOf(FIT_SCALE, 16);
  const least = largestOf(FIT_MIN, 16);
  const inverseScale: f32 = <f32>15 / scale;
  const inverseMin: f32 = <f32>15 / least;
  for (let j: usize = 0; j < 16; j++) {
    const s = inverseScale * fitScale(j);
    const m = inverseMin * fitMin(j);
    store<u8>(SCALE_CODES + j, scale > 0 ? (candle ? roundAwayInt(s) : nearestInt(s)) : 0);
    store<u8>(MIN_CODES + j, least > 0 ? (candle ? roundAwayInt(m) : nearestInt(m)) : 0);
  }
  store<f32>(BLOCK_D, scale > 0 ? scale / 15 : 0);
  store<f32>(BLOCK_DMIN, least > 0 ? least / 15 : 0);
}

// @ts-ignore: decorator
@inline
function fitPlain(x: usize, candle: bool): void {
  for (let octet: usize = 0; octet < 2; octet++) {
    transposeOctet(x + (octet << 9), 64, 16, X_A);
    if (candle) {
      searchAffineOld(octet << 5, 16, 3);
    } else {
      plainWeights();
      searchAffine(octet << 5, 16, 3, -0.5, <f32>0.1, 15, true, false);
    }
  }
  plainScales(candle);
}

// @ts-ignore: decorator
@inline
function fitWithImportance(x: usize, importance: usize, column: i32, width: i32, valid: i32, candle: bool): void {
  const sigmas = sumsOfSquares256(x, valid);
  for (let k: usize = 0; k < <usize>valid; k++) {
    const sigma2 = load<f32>(sigmas + (k << 2)) / 256;
    for (let octet: usize = 0; octet < 2; octet++) {
      transposeOctet(x + k * SUPER_BLOCK_BYTES + (octet << 9), 64, 16, X_A);
      transposeOctet(importance + (<usize>column << 2) + (octet << 9), 64, 16, W_A);
      weighOctet(16, sigma2);
      searchAffine(k * FIT_BLOCK + (octet << 5), 16, 3, -0.9, <f32>0.05, 36, false, candle);
    }
    column += 256;
    if (column == width) column = 0;
  }
  searchPositive(FIT_SCALE, FIT_SUMW, 16, 15, SCALE_CODES, BLOCK_D, candle);
  searchPositive(FIT_MIN, FIT_SUMW, 16, 15, MIN_CODES, BLOCK_DMIN, candle);
}

/** Codes of sub-block `j` of super-block `k` under the stored scales. */
// @ts-ignore: decorator
@inline
function recode(x: usize, block: usize, k: usize, j: usize, d: f32, dmin: f32, candle: bool): v128 {
  const packed = <i32>load<u8>(block + j);
  return recodeAffine(x + (j << 6), d * <f32>(packed & 15), dmin * <f32>(packed >> 4), 3, k * FIT_BLOCK + (j << 2), candle);
}

// @ts-ignore: decorator
@inline
function finishBlock(x: usize, block: usize, k: usize, candle: bool): void {
  const d = storeHalf(block + D, load<f32>(BLOCK_D + (k << 2)));
  const dmin = storeHalf(block + DMIN, load<f32>(BLOCK_DMIN + (k << 2)));
  v128.store(block, v128.or(v128.load(SCALE_CODES + (k << 4)), i8x16.shl(v128.load(MIN_CODES + (k << 4)), 4)));
  for (let half: usize = 0; half < 16; half += 8) {
    for (let p: usize = half; p < half + 2; p++) {
      let byte = recode(x, block, k, p, d, dmin, candle);
      byte = v128.or(byte, i8x16.shl(recode(x, block, k, p + 2, d, dmin, candle), 2));
      byte = v128.or(byte, i8x16.shl(recode(x, block, k, p + 4, d, dmin, candle), 4));
      byte = v128.or(byte, i8x16.shl(recode(x, block, k, p + 6, d, dmin, candle), 6));
      v128.store(block + (half << 2) + ((p - half) << 4), byte, QS);
    }
  }
}

// @ts-ignore: decorator
@inline
function encode(x: usize, importance: usize, out: usize, rows: i32, width: i32, candle: bool): i32 {
  const blocks = (rows * width) >> 8;
  let again = 0;
  if (importance == 0) {
    for (let b = 0; b < blocks; b++, x += SUPER_BLOCK_BYTES, out += 84) {
      fitPlain(x, candle);
      finishBlock(x, out, 0, candle);
    }
    return 0;
  }
  for (let b = 0; b < blocks; b += 4) {
    const valid = min<i32>(4, blocks - b);
    fitWithImportance(x, importance, (b << 8) % width, width, valid, candle);
    for (let k: usize = 0; k < <usize>valid; k++) finishBlock(x + k * SUPER_BLOCK_BYTES, out + k * 84, k, candle);
    for (let k = 0; k < valid; k++, x += SUPER_BLOCK_BYTES, out += 84) {
      if (!candle || !(isNanHalf(out + D) || isNanHalf(out + DMIN))) continue;
      fitPlain(x, true);
      finishBlock(x, out, 0, true);
      again++;
    }
  }
  return again;
}

export function q2_k_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  return encode(src, importance, dst, rows, width, false);
}

export function q2_k_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  return encode(src, importance, dst, rows, width, true);
}

// @ts-ignore: decorator
@inline
function storeSixteen(codes: v128, scale: v128, min: v128, out: usize): void {
  const low = i16x8.extend_low_i8x16_u(codes);
  const high = i16x8.extend_high_i8x16_u(codes);
  v128.store(out, f32x4.sub(f32x4.mul(scale, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(low))), min));
  v128.store(out, f32x4.sub(f32x4.mul(scale, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(low))), min), 16);
  v128.store(out, f32x4.sub(f32x4.mul(scale, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(high))), min), 32);
  v128.store(out, f32x4.sub(f32x4.mul(scale, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(high))), min), 48);
}

export function q2_k_dequantize(src: usize, dst: usize, count: i32): void {
  const mask = i8x16.splat(3);
  for (const end = dst + (<usize>count << 2); dst < end; src += 84) {
    const d = loadHalf(src + D);
    const dmin = loadHalf(src + DMIN);
    for (let half: usize = 0; half < 2; half++) {
      let low = v128.load(src + (half << 5), QS);
      let high = v128.load(src + (half << 5), QS + 16);
      for (let j = half << 3; j < (half + 1) << 3; j += 2, dst += 128) {
        const first = <i32>load<u8>(src + j);
        const second = <i32>load<u8>(src + j, 1);
        storeSixteen(v128.and(low, mask), f32x4.splat(d * <f32>(first & 15)), f32x4.splat(dmin * <f32>(first >> 4)), dst);
        storeSixteen(
          v128.and(high, mask),
          f32x4.splat(d * <f32>(second & 15)),
          f32x4.splat(dmin * <f32>(second >> 4)),
          dst + 64,
        );
        low = i8x16.shr_u(low, 2);
        high = i8x16.shr_u(high, 2);
      }
    }
  }
}

export function q2_k_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  matvecK(weights, activations, out, outputs, width, 2, 84);
}

export function q2_k_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTilesK(weights, activations, out, outputs, rows, width, outStride, 2);
}
