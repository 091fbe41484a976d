// Q6_K: x ≈ d·scale·(code - 32), 8-bit scales for every 16 elements, upper two bits apart; see src/quants/q6_k.ts.

import { matvecK } from "./dot-k";
import { matmulTilesK } from "./tile-k";
import { nibblesOf, storeDecoded } from "./block32";
import { loadHalf, storeHalf } from "./f16";
import { nearestInt, roundAwayInt, transposeOctet } from "./lanes";
import { FIT_SCALE, L_A, W_A, X_A } from "./memory";
import { searchSymmetric, searchSymmetricOld, squareWeights } from "./search-symmetric";
import { fitScale, fittedSymmetric, isNanHalf, peakScale, recodeSymmetric, storedCodes, SUPER_BLOCK_BYTES } from "./superblock";

export const Q6K_BLOCK_ELEMENTS: i32 = 256;
export const Q6K_BLOCK_BYTES: i32 = 210;
const QL: usize = 0;
const QH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

// @ts-ignore: decorator
@inline
function recode(x: usize, block: usize, j: usize, d: f32, candle: bool): v128 {
  const scale = d * <f32>load<i8>(block + j, SCALES);
  if (scale == 0) return candle ? storedCodes(L_A, <i32>j) : fittedSymmetric(x + (j << 6), 32, j << 2);
  return recodeSymmetric(x + (j << 6), scale, 32, candle);
}

/** Encodes one super-block. The weights are the raw importance: no sigma2 term, unlike the other K types. */
// @ts-ignore: decorator
@inline
function encodeBlock(x: usize, importance: usize, block: usize, candle: bool): void {
  for (let octet: usize = 0; octet < 2; octet++) {
    transposeOctet(x + (octet << 9), 64, 16, X_A);
    if (importance == 0) squareWeights(16);
    else transposeOctet(importance + (octet << 9), 64, 16, W_A);
    if (candle) searchSymmetricOld(octet << 5, L_A + (octet << 10), 16, 32);
    else searchSymmetric(octet << 5, 16, 32);
  }
  const peak = peakScale(FIT_SCALE);
  // candle has no early return: a peak of 0 gives d = -0 and keeps the codes of the search.
  if (!candle && abs<f32>(peak) < <f32>1e-15) {
    memory.fill(block, 0, 210);
    return;
  }
  const iscale: f32 = <f32>-128 / peak;
  const d = storeHalf(block + D, <f32>1 / iscale);
  for (let j: usize = 0; j < 16; j++) {
    const v = iscale * fitScale(j);
    store<i8>(block + j, min<i32>(127, candle ? roundAwayInt(v) : nearestInt(v)), SCALES);
  }
  for (let half: usize = 0; half < 2; half++) {
    for (let p: usize = 0; p < 2; p++) {
      const j = (half << 3) + p;
      const a = recode(x, block, j, d, candle);
      const b = recode(x, block, j + 2, d, candle);
      const c = recode(x, block, j + 4, d, candle);
      const e = recode(x, block, j + 6, d, candle);
      v128.store(block + (half << 6) + (p << 4), nibblesOf(a, c), QL);
      v128.store(block + (half << 6) + (p << 4), nibblesOf(b, e), QL + 32);
      const low = v128.or(i8x16.shr_u(a, 4), i8x16.shl(i8x16.shr_u(b, 4), 2));
      const high = v128.or(i8x16.shl(i8x16.shr_u(c, 4), 4), i8x16.shl(i8x16.shr_u(e, 4), 6));
      v128.store(block + (half << 5) + (p << 4), v128.or(low, high), QH);
    }
  }
}

export function q6_k_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  const blocks = (rows * width) >> 8;
  for (let b = 0; b < blocks; b++, src += SUPER_BLOCK_BYTES, dst += 210) {
    encodeBlock(src, importance == 0 ? 0 : importance + <usize>(((b << 8) % width) << 2), dst, false);
  }
  return 0;
}

/** Returns how many super-blocks came out with a NaN scale under importance and were encoded again without. */
export function q6_k_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  const blocks = (rows * width) >> 8;
  let again = 0;
  for (let b = 0; b < blocks; b++, src += SUPER_BLOCK_BYTES, dst += 210) {
    let weights: usize = importance == 0 ? 0 : importance + <usize>(((b << 8) % width) << 2);
    encodeBlock(src, weights, dst, true);
    if (importance == 0 || !isNanHalf(dst + D)) continue;
    weights = 0;
    encodeBlock(src, weights, dst, true);
    again++;
  }
  return again;
}

export function q6_k_dequantize(src: usize, dst: usize, count: i32): void {
  const mask = i8x16.splat(15);
  const three = i8x16.splat(0x30);
  const offset = i8x16.splat(32);
  for (const end = dst + (<usize>count << 2); dst < end; src += 210, dst += 1024) {
    const d = loadHalf(src + D);
    for (let half: usize = 0; half < 2; half++) {
      for (let p: usize = 0; p < 2; p++) {
        const ac = v128.load(src + (half << 6) + (p << 4), QL);
        const be = v128.load(src + (half << 6) + (p << 4), QL + 32);
        const high = v128.load(src + (half << 5) + (p << 4), QH);
        const j = (half << 3) + p;
        const out = dst + (j << 6);
        const a = v128.or(v128.and(ac, mask), v128.and(i8x16.shl(high, 4), three));
        const b = v128.or(v128.and(be, mask), v128.and(i8x16.shl(high, 2), three));
        const c = v128.or(i8x16.shr_u(ac, 4), v128.and(high, three));
        const e = v128.or(i8x16.shr_u(be, 4), v128.and(i8x16.shr_u(high, 2), three));
        decode(i8x16.sub(a, offset), d * <f32>load<i8>(src + j, SCALES), out);
        decode(i8x16.sub(b, offset), d * <f32>load<i8>(src + j, SCALES + 2), out + 128);
        decode(i8x16.sub(c, offset), d * <f32>load<i8>(src + j, SCALES + 4), out + 256);
        decode(i8x16.sub(e, offset), d * <f32>load<i8>(src + j, SCALES + 6), out + 384);
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function decode(values: v128, scale: f32, out: usize): void {
  const d = f32x4.splat(scale);
  storeDecoded(values, d, d, false, out);
}

export function q6_k_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  matvecK(weights, activations, out, outputs, width, 6, 210);
}

export function q6_k_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTilesK(weights, activations, out, outputs, rows, width, outStride, 6);
}
