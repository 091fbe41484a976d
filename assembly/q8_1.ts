// Q8_1: Q8_0 with s, the scaled sum of the codes. Also the activations of Q4_1 and Q5_1.

import { matvec32, Q8_1 } from "./dot32";
import { matmulTiles32 } from "./tile32";
import { storeDecoded } from "./block32";
import { floatFromHalf, halfFromFloat, loadHalf, storeHalf } from "./f16";
import { encodeBytes32 } from "./q8_0";

export const Q8_1_BLOCK_ELEMENTS: i32 = 32;
export const Q8_1_BLOCK_BYTES: i32 = 36;
const D: usize = 0;
const S: usize = 2;
const QS: usize = 4;

// @ts-ignore: decorator
@inline
function sumOfBytes32(codes: usize): i32 {
  const pairs = i16x8.add(
    i16x8.extadd_pairwise_i8x16_s(v128.load(codes)),
    i16x8.extadd_pairwise_i8x16_s(v128.load(codes, 16)),
  );
  let sums = i32x4.extadd_pairwise_i16x8_s(pairs);
  sums = i32x4.add(sums, v128.shuffle<i32>(sums, sums, 2, 3, 0, 1));
  return i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1);
}

/** ggml scales the sum by the unrounded d; candle multiplies two numbers already rounded to binary16. */
function encode(src: usize, dst: usize, count: i32, candle: bool): void {
  for (const end = src + (<usize>count << 2); src < end; src += 128, dst += 36) {
    const d = encodeBytes32(src, dst + QS, candle);
    const stored = storeHalf(dst + D, d);
    const sum = <f32>sumOfBytes32(dst + QS);
    storeHalf(dst + S, candle ? floatFromHalf(halfFromFloat(sum)) * stored : sum * d);
  }
}

export function q8_1_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  encode(src, dst, rows * width, false);
  return 0;
}

export function q8_1_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  encode(src, dst, rows * width, true);
  return 0;
}

export function q8_1_dequantize(src: usize, dst: usize, count: i32): void {
  for (const end = dst + (<usize>count << 2); dst < end; src += 36, dst += 128) {
    const d = f32x4.splat(loadHalf(src + D));
    storeDecoded(v128.load(src, QS), d, d, false, dst);
    storeDecoded(v128.load(src, QS + 16), d, d, false, dst + 64);
  }
}

export function q8_1_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  matvec32(weights, activations, out, outputs, width, Q8_1, 36);
}

export function q8_1_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTiles32(weights, activations, out, outputs, rows, width, outStride, Q8_1, 36);
}
