// Q5_1: x ≈ d·code + m, fifth bits apart.

import { encodeAffine32 } from "./affine32";
import { fifthBytes, storeDecoded } from "./block32";
import { matvec32, Q5_1 } from "./dot32";
import { matmulTiles32 } from "./tile32";
import { loadHalf } from "./f16";
import { searchAffineRows } from "./searched32";

export const Q5_1_BLOCK_ELEMENTS: i32 = 32;
export const Q5_1_BLOCK_BYTES: i32 = 24;
const QH: usize = 4;
const QS: usize = 8;

function encode(src: usize, dst: usize, count: i32, saturate: bool): void {
  for (const end = src + (<usize>count << 2); src < end; src += 128, dst += 24) encodeAffine32(src, dst, 31, saturate);
}

export function q5_1_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  if (importance == 0) encode(src, dst, rows * width, false);
  else searchAffineRows(src, importance, dst, rows, width, 31, 24);
  return 0;
}

export function q5_1_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  encode(src, dst, rows * width, true);
  return 0;
}

export function q5_1_dequantize(src: usize, dst: usize, count: i32): void {
  const mask = i8x16.splat(15);
  for (const end = dst + (<usize>count << 2); dst < end; src += 24, dst += 128) {
    const d = f32x4.splat(loadHalf(src));
    const m = f32x4.splat(loadHalf(src + 2));
    const nibbles = v128.load(src, QS);
    const high = load<i32>(src, QH);
    storeDecoded(v128.or(v128.and(nibbles, mask), fifthBytes(high, 0)), d, m, true, dst);
    storeDecoded(v128.or(i8x16.shr_u(nibbles, 4), fifthBytes(high, 1)), d, m, true, dst + 64);
  }
}

export function q5_1_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  matvec32(weights, activations, out, outputs, width, Q5_1, 24);
}

export function q5_1_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTiles32(weights, activations, out, outputs, rows, width, outStride, Q5_1, 24);
}
