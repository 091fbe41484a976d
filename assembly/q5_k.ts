// Q5_K: as Q4_K with 5-bit codes, fifth bits apart.

import { matvecK } from "./dot-k";
import { matmulTilesK } from "./tile-k";
import { decodeSixBit, encodeSixBit } from "./k4";

export const Q5K_BLOCK_ELEMENTS: i32 = 256;
export const Q5K_BLOCK_BYTES: i32 = 176;

export function q5_k_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  return encodeSixBit(src, importance, dst, rows, width, 31, false);
}

export function q5_k_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  return encodeSixBit(src, importance, dst, rows, width, 31, true);
}

export function q5_k_dequantize(src: usize, dst: usize, count: i32): void {
  for (const end = dst + (<usize>count << 2); dst < end; src += 176, dst += 1024) decodeSixBit(src, dst, 31);
}

export function q5_k_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  matvecK(weights, activations, out, outputs, width, 5, 176);
}

export function q5_k_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTilesK(weights, activations, out, outputs, rows, width, outStride, 5);
}
