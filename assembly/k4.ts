// What Q4_K (N = 15) and Q5_K (N = 31) share: sub-blocks of 32 with 6-bit scales and minima; see src/quants/k4.ts.

import { loadHalf, storeHalf } from "./f16";
import { nibblesOf } from "./block32";
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

const D: usize = 0;
const DMIN: usize = 2;
const SCALES: usize = 4;

/** sqrt(mean square) + |x| of the eight sub-blocks. */
// @ts-ignore: decorator
@inline
function plainWeights(): void {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  for (let i: usize = 0; i < 512; i += 16) {
    a = f32x4.add(a, f32x4.mul(v128.load(X_A + i), v128.load(X_A + i)));
    b = f32x4.add(b, f32x4.mul(v128.load(X_B + i), v128.load(X_B + i)));
  }
  a = f32x4.sqrt(f32x4.div(a, f32x4.splat(32)));
  b = f32x4.sqrt(f32x4.div(b, f32x4.splat(32)));
  for (let i: usize = 0; i < 512; i += 16) {
    v128.store(W_A + i, f32x4.add(a, f32x4.abs(v128.load(X_A + i))));
    v128.store(W_B + i, f32x4.add(b, f32x4.abs(v128.load(X_B + i))));
  }
}

/** Scale and minimum codes of super-block 0 from the fits. ggml narrows to a byte before it clamps; candle clamps. */
// @ts-ignore: decorator
@inline
function plainScales(candle: bool): void {
  const scale = largestOf(FIT_SCALE, 8);
  const least = largestOf(FIT_MIN, 8);
  const inverseScale: f32 = scale > 0 ? <f32>63 / scale : 0;
  const inverseMin: f32 = least > 0 ? <f32>63 / least : 0;
  for (let j: usize = 0; j < 8; j++) {
    const s = inverseScale * fitScale(j);
    const m = inverseMin * fitMin(j);
    store<u8>(SCALE_CODES + j, min<i32>(63, candle ? roundAwayInt(s) : nearestInt(s) & 255));
    store<u8>(MIN_CODES + j, min<i32>(63, candle ? roundAwayInt(m) : nearestInt(m) & 255));
  }
  store<f32>(BLOCK_D, scale / 63);
  store<f32>(BLOCK_DMIN, least / 63);
}

// @ts-ignore: decorator
@inline
function fitPlain(x: usize, N: i32, candle: bool): void {
  transposeOctet(x, 128, 32, X_A);
  if (candle) {
    searchAffineOld(0, 32, N);
  } else {
    plainWeights();
    if (N == 15) searchAffine(0, 32, 15, -1, <f32>0.1, 20, false, false);
    else searchAffine(0, 32, 31, -0.5, <f32>0.1, 15, false, false);
  }
  plainScales(candle);
}

/** Packs and stores the scales of super-block `k`, then re-codes and packs its values. */
// @ts-ignore: decorator
@inline
function finishBlock(x: usize, block: usize, k: usize, N: i32, candle: bool): void {
  const d = storeHalf(block + D, load<f32>(BLOCK_D + (k << 2)));
  const dmin = storeHalf(block + DMIN, load<f32>(BLOCK_DMIN + (k << 2)));
  const scales = SCALE_CODES + (k << 4);
  const mins = MIN_CODES + (k << 4);
  // Codes that wrapped around (extreme importance): Q5_K clamps them, Q4_K packs them as they are.
  const most: i32 = N == 31 ? 63 : 255;
  for (let j: usize = 0; j < 4; j++) {
    const s = min<i32>(load<u8>(scales + j), most);
    const m = min<i32>(load<u8>(mins + j), most);
    const highS = min<i32>(load<u8>(scales + j + 4), most);
    const highM = min<i32>(load<u8>(mins + j + 4), most);
    store<u8>(block + j, s | ((highS >> 4) << 6), SCALES);
    store<u8>(block + j, m | ((highM >> 4) << 6), SCALES + 4);
    store<u8>(block + j, (highS & 15) | ((highM & 15) << 4), SCALES + 8);
  }
  const qs = block + (N == 15 ? 16 : 48);
  let high0 = i8x16.splat(0);
  let high1 = i8x16.splat(0);
  for (let g: usize = 0; g < 4; g++, x += 256) {
    const j = g << 1;
    const fit = k * FIT_BLOCK + (j << 2);
    const s0 = d * <f32>scaleOf(block, j);
    const m0 = dmin * <f32>minOf(block, j);
    const s1 = d * <f32>scaleOf(block, j + 1);
    const m1 = dmin * <f32>minOf(block, j + 1);
    const a0 = recodeAffine(x, s0, m0, N, fit, candle);
    const a1 = recodeAffine(x + 64, s0, m0, N, fit, candle);
    const b0 = recodeAffine(x + 128, s1, m1, N, fit + 4, candle);
    const b1 = recodeAffine(x + 192, s1, m1, N, fit + 4, candle);
    v128.store(qs + (g << 5), nibblesOf(a0, b0));
    v128.store(qs + (g << 5), nibblesOf(a1, b1), 16);
    if (N == 31) {
      high0 = v128.or(high0, v128.or(fifthAt(a0, <i32>j), fifthAt(b0, <i32>j + 1)));
      high1 = v128.or(high1, v128.or(fifthAt(a1, <i32>j), fifthAt(b1, <i32>j + 1)));
    }
  }
  if (N == 31) {
    v128.store(block, high0, 16);
    v128.store(block, high1, 32);
  }
}

/** Bit 4 of sixteen codes, moved to bit `j`. */
// @ts-ignore: decorator
@inline
function fifthAt(codes: v128, j: i32): v128 {
  return i8x16.shl(i8x16.shr_u(codes, 4), j);
}

/** The 6-bit scale of sub-block `j`, from the packed twelve bytes. */
// @ts-ignore: decorator
@inline
export function scaleOf(block: usize, j: usize): i32 {
  if (j < 4) return load<u8>(block + j, SCALES) & 63;
  return (load<u8>(block + j, SCALES + 4) & 15) | ((load<u8>(block + j, SCALES - 4) >> 6) << 4);
}

// @ts-ignore: decorator
@inline
export function minOf(block: usize, j: usize): i32 {
  if (j < 4) return load<u8>(block + j, SCALES + 4) & 63;
  return (load<u8>(block + j, SCALES + 4) >> 4) | ((load<u8>(block + j, SCALES) >> 6) << 4);
}

/** Fits four super-blocks, with their scales of scales; `valid` of them exist. */
// @ts-ignore: decorator
@inline
function fitWithImportance(x: usize, importance: usize, column: i32, width: i32, valid: i32, N: i32, candle: bool): void {
  const sigmas = sumsOfSquares256(x, valid);
  for (let k: usize = 0; k < <usize>valid; k++) {
    transposeOctet(x + k * SUPER_BLOCK_BYTES, 128, 32, X_A);
    transposeOctet(importance + (<usize>column << 2), 128, 32, W_A);
    weighOctet(32, load<f32>(sigmas + (k << 2)) * 2 / 256);
    searchAffine(k * FIT_BLOCK, 32, N, -0.9, <f32>0.05, 36, false, candle);
    column += 256;
    if (column == width) column = 0;
  }
  searchPositive(FIT_SCALE, FIT_SUMW, 8, 63, SCALE_CODES, BLOCK_D, candle);
  searchPositive(FIT_MIN, FIT_SUMW, 8, 63, MIN_CODES, BLOCK_DMIN, candle);
}

/** Encodes rows; returns how many super-blocks candle's rules left with a NaN scale and were encoded again plainly. */
// @ts-ignore: decorator
@inline
export function encodeSixBit(x: usize, importance: usize, out: usize, rows: i32, width: i32, N: i32, candle: bool): i32 {
  const blockBytes: usize = N == 15 ? 144 : 176;
  const blocks = (rows * width) >> 8;
  let again = 0;
  if (importance == 0) {
    for (let b = 0; b < blocks; b++, x += SUPER_BLOCK_BYTES, out += blockBytes) {
      fitPlain(x, N, candle);
      finishBlock(x, out, 0, N, candle);
    }
    return 0;
  }
  for (let b = 0; b < blocks; b += 4) {
    const valid = min<i32>(4, blocks - b);
    fitWithImportance(x, importance, (b << 8) % width, width, valid, N, candle);
    for (let k: usize = 0; k < <usize>valid; k++) finishBlock(x + k * SUPER_BLOCK_BYTES, out + k * blockBytes, k, N, candle);
    for (let k = 0; k < valid; k++, x += SUPER_BLOCK_BYTES, out += blockBytes) {
      if (!candle || !(isNanHalf(out + D) || isNanHalf(out + DMIN))) continue;
      fitPlain(x, N, true);
      finishBlock(x, out, 0, N, true);
      again++;
    }
  }
  return again;
}

/** y = ((d·scale)·code) - (dmin·min) of sixteen codes. */
// @ts-ignore: decorator
@inline
function storeSixteen(codes: v128, scale: v128, min: v128, out: usize): void {
  const low = i16x8.extend_low_i8x16_u(codes);
  const high = i16x8.extend_high_i8x16_u(codes);
  v128.store(out, f32x4.sub(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(low)), scale), min));
  v128.store(out, f32x4.sub(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(low)), scale), min), 16);
  v128.store(out, f32x4.sub(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(high)), scale), min), 32);
  v128.store(out, f32x4.sub(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(high)), scale), min), 48);
}

// @ts-ignore: decorator
@inline
export function decodeSixBit(block: usize, out: usize, N: i32): void {
  const d = loadHalf(block + D);
  const dmin = loadHalf(block + DMIN);
  const mask = i8x16.splat(15);
  const qs = block + (N == 15 ? 16 : 48);
  for (let g: usize = 0; g < 4; g++, out += 256) {
    const j = g << 1;
    for (let half: usize = 0; half < 32; half += 16) {
      const byte = v128.load(qs + (g << 5) + half);
      let a = v128.and(byte, mask);
      let b = i8x16.shr_u(byte, 4);
      if (N == 31) {
        const high = v128.load(block + half, 16);
        a = v128.or(a, i8x16.shl(v128.and(i8x16.shr_u(high, <i32>j), i8x16.splat(1)), 4));
        b = v128.or(b, i8x16.shl(v128.and(i8x16.shr_u(high, <i32>j + 1), i8x16.splat(1)), 4));
      }
      const p = out + (half << 2);
      storeSixteen(a, f32x4.splat(d * <f32>scaleOf(block, j)), f32x4.splat(dmin * <f32>minOf(block, j)), p);
      storeSixteen(b, f32x4.splat(d * <f32>scaleOf(block, j + 1)), f32x4.splat(dmin * <f32>minOf(block, j + 1)), p + 128);
    }
  }
}
