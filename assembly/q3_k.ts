// Q3_K: x ≈ d·(scale - 32)·(code - 4), 6-bit scales for every 16 elements, high bits apart; see src/quants/q3_k.ts.

import { matvecK } from "./dot-k";
import { matmulTilesK } from "./tile-k";
import { storeDecoded } from "./block32";
import { loadHalf, storeHalf } from "./f16";
import { sumsOfSquares256 } from "./importance";
import { nearestInt, roundAwayInt, transposeOctet } from "./lanes";
import {
  BLOCK_D,
  FIT_BLOCK,
  FIT_OF_SCALES,
  FIT_SCALE,
  FIT_SUMW,
  L_A,
  L_SCALES,
  SCALE_CODES,
  W_A,
  X_A,
} from "./memory";
import { searchSymmetric, searchSymmetricOld, searchThreeBit, sumWeights } from "./search-symmetric";
import {
  fitScale,
  fittedSymmetric,
  isNanHalf,
  peakScale,
  recodeSymmetric,
  storedCodes,
  SUPER_BLOCK_BYTES,
  weighOctet,
} from "./superblock";

export const Q3K_BLOCK_ELEMENTS: i32 = 256;
export const Q3K_BLOCK_BYTES: i32 = 110;
const HMASK: usize = 0;
const QS: usize = 32;
const SCALES: usize = 96;
const D: usize = 108;

/** Where the codes of a search stay that a decoded scale of zero keeps. */
const ZERO = 0;
const IN_L = 1;
const IN_FIT = 2;

// @ts-ignore: decorator
@inline
function fitPlain(x: usize, candle: bool): void {
  for (let octet: usize = 0; octet < 2; octet++) {
    transposeOctet(x + (octet << 9), 64, 16, X_A);
    searchThreeBit(octet << 5, L_A + (octet << 10), candle);
  }
  const peak = peakScale(FIT_SCALE);
  if (peak == 0) {
    v128.store(SCALE_CODES, i8x16.splat(0));
    store<f32>(BLOCK_D, 0);
    return;
  }
  const iscale: f32 = <f32>-32 / peak;
  for (let j: usize = 0; j < 16; j++) {
    const v = iscale * fitScale(j);
    const rounded = candle ? roundAwayInt(v) : (nearestInt(v) << 24) >> 24;
    store<u8>(SCALE_CODES + j, min<i32>(31, max<i32>(-32, rounded)) + 32);
  }
  store<f32>(BLOCK_D, <f32>1 / iscale);
}

/** The six-bit scale of sub-block `j` from the packed twelve bytes. */
// @ts-ignore: decorator
@inline
export function scaleOf(block: usize, j: usize): i32 {
  const low = (<i32>load<u8>(block + (j & 7), SCALES) >> (j < 8 ? 0 : 4)) & 15;
  return (low | (((<i32>load<u8>(block + (j & 3), SCALES + 8) >> (<i32>(j >> 2) << 1)) & 3) << 4)) - 32;
}

// @ts-ignore: decorator
@inline
function packScales(codes: usize, block: usize): void {
  for (let j: usize = 0; j < 8; j++) {
    store<u8>(block + j, (load<u8>(codes + j) & 15) | ((load<u8>(codes + j, 8) & 15) << 4), SCALES);
  }
  for (let j: usize = 0; j < 4; j++) {
    const high =
      (load<u8>(codes + j) >> 4) |
      ((load<u8>(codes + j, 4) >> 4) << 2) |
      ((load<u8>(codes + j, 8) >> 4) << 4) |
      ((load<u8>(codes + j, 12) >> 4) << 6);
    store<u8>(block + j, high, SCALES + 8);
  }
}

// @ts-ignore: decorator
@inline
function recode(x: usize, block: usize, k: usize, j: usize, d: f32, kept: i32, candle: bool): v128 {
  const scale = d * <f32>scaleOf(block, j);
  if (scale == 0) {
    if (kept == ZERO) return i8x16.splat(0);
    return kept == IN_L ? storedCodes(L_A, <i32>j) : fittedSymmetric(x + (j << 6), 4, k * FIT_BLOCK + (j << 2));
  }
  return recodeSymmetric(x + (j << 6), scale, 4, candle);
}

// @ts-ignore: decorator
@inline
function finishBlock(x: usize, block: usize, k: usize, kept: i32, candle: bool): void {
  const d = storeHalf(block + D, load<f32>(BLOCK_D + (k << 2)));
  packScales(SCALE_CODES + (k << 4), block);
  for (let p: usize = 0; p < 2; p++) {
    let mask = i8x16.splat(0);
    for (let half: usize = 0; half < 2; half++) {
      let byte = i8x16.splat(0);
      for (let i = 0; i < 4; i++) {
        const codes = recode(x, block, k, (half << 3) + (<usize>i << 1) + p, d, kept, candle);
        byte = v128.or(byte, i8x16.shl(v128.and(codes, i8x16.splat(3)), i << 1));
        mask = v128.or(mask, i8x16.shl(i8x16.shr_u(codes, 2), (<i32>half << 2) + i));
      }
      v128.store(block + (half << 5) + (p << 4), byte, QS);
    }
    v128.store(block + (p << 4), mask, HMASK);
  }
}

/** Weights of one octet under importance: sigma2 is twice the mean square. */
// @ts-ignore: decorator
@inline
function loadOctet(x: usize, importance: usize, sum: f32, at: usize): void {
  transposeOctet(x, 64, 16, X_A);
  transposeOctet(importance, 64, 16, W_A);
  weighOctet(16, sum * 2 / 256);
  sumWeights(at, 16);
}

/** Eight super-blocks: their sub-blocks one octet after the other, then their scales of scales in one more. */
function encodeEight(x: usize, importance: usize, column: i32, width: i32, out: usize, valid: i32): void {
  for (let k: usize = 0; k < <usize>valid; k++) {
    const p = x + k * SUPER_BLOCK_BYTES;
    const q = importance + (<usize>column << 2);
    const sum = load<f32>(sumsOfSquares256(x + (k & ~3) * SUPER_BLOCK_BYTES, valid - <i32>(k & ~3)) + ((k & 3) << 2));
    for (let octet: usize = 0; octet < 2; octet++) {
      const at = k * FIT_BLOCK + (octet << 5);
      loadOctet(p + (octet << 9), q + (octet << 9), sum, at);
      searchSymmetric(at, 16, 4);
    }
    column += 256;
    if (column == width) column = 0;
  }
  transposeOctet(FIT_SCALE, FIT_BLOCK, 16, X_A);
  transposeOctet(FIT_SUMW, FIT_BLOCK, 16, W_A);
  searchSymmetric(FIT_OF_SCALES, 16, 32);
  for (let k: usize = 0; k < <usize>valid; k++) {
    const fit = FIT_OF_SCALES + (k << 2);
    store<f32>(BLOCK_D + (k << 2), load<f32>(FIT_SCALE + fit));
    v128.store(SCALE_CODES + (k << 4), fittedSymmetric(FIT_SCALE + k * FIT_BLOCK, 32, fit));
    finishBlock(x + k * SUPER_BLOCK_BYTES, out + k * 110, k, IN_FIT, false);
  }
}

/** candle's super-block under importance: old QX twice, the second time in the first lane only. */
function encodeOld(x: usize, importance: usize, out: usize): void {
  const sum = load<f32>(sumsOfSquares256(x, 1));
  for (let octet: usize = 0; octet < 2; octet++) {
    loadOctet(x + (octet << 9), importance + (octet << 9), sum, octet << 5);
    searchSymmetricOld(octet << 5, L_A + (octet << 10), 16, 4);
  }
  transposeOctet(FIT_SCALE, FIT_BLOCK, 16, X_A);
  transposeOctet(FIT_SUMW, FIT_BLOCK, 16, W_A);
  searchSymmetricOld(FIT_OF_SCALES, L_SCALES, 16, 32);
  store<f32>(BLOCK_D, load<f32>(FIT_SCALE + FIT_OF_SCALES));
  v128.store(SCALE_CODES, storedCodes(L_SCALES, 0));
  finishBlock(x, out, 0, IN_L, true);
}

function encodePlain(x: usize, out: usize, blocks: i32): void {
  for (let b = 0; b < blocks; b++, x += SUPER_BLOCK_BYTES, out += 110) {
    fitPlain(x, false);
    finishBlock(x, out, 0, IN_L, false);
  }
}

function encodePlainOld(x: usize, out: usize, blocks: i32): void {
  for (let b = 0; b < blocks; b++, x += SUPER_BLOCK_BYTES, out += 110) {
    fitPlain(x, true);
    finishBlock(x, out, 0, ZERO, true);
  }
}

export function q3_k_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  const blocks = (rows * width) >> 8;
  if (importance == 0) {
    encodePlain(src, dst, blocks);
    return 0;
  }
  for (let b = 0; b < blocks; b += 8, src += 8 * SUPER_BLOCK_BYTES, dst += 880) {
    encodeEight(src, importance, (b << 8) % width, width, dst, min<i32>(8, blocks - b));
  }
  return 0;
}

export function q3_k_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  const blocks = (rows * width) >> 8;
  if (importance == 0) {
    encodePlainOld(src, dst, blocks);
    return 0;
  }
  let again = 0;
  for (let b = 0; b < blocks; b++, src += SUPER_BLOCK_BYTES, dst += 110) {
    encodeOld(src, importance + <usize>(((b << 8) % width) << 2), dst);
    if (!isNanHalf(dst + D)) continue;
    encodePlainOld(src, dst, 1);
    again++;
  }
  return again;
}

export function q3_k_dequantize(src: usize, dst: usize, count: i32): void {
  const three = i8x16.splat(3);
  const four = i8x16.splat(4);
  for (const end = dst + (<usize>count << 2); dst < end; src += 110, dst += 1024) {
    const d = loadHalf(src + D);
    for (let p: usize = 0; p < 2; p++) {
      let mask = v128.load(src + (p << 4), HMASK);
      for (let half: usize = 0; half < 2; half++) {
        let low = v128.load(src + (half << 5) + (p << 4), QS);
        for (let i: usize = 0; i < 4; i++) {
          const j = (half << 3) + (i << 1) + p;
          const code = v128.or(v128.and(low, three), v128.and(i8x16.shl(mask, 2), four));
          const scale = f32x4.splat(d * <f32>scaleOf(src, j));
          storeDecoded(i8x16.sub(code, four), scale, scale, false, dst + (j << 6));
          low = i8x16.shr_u(low, 2);
          mask = i8x16.shr_u(mask, 1);
        }
      }
    }
  }
}

export function q3_k_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  matvecK(weights, activations, out, outputs, width, 3, 110);
}

export function q3_k_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTilesK(weights, activations, out, outputs, rows, width, outStride, 3);
}
