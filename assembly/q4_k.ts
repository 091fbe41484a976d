// Q4_K: x ≈ d·scale·code - dmin·min, 4-bit codes, 6-bit scales and minima for every 32 elements.

import { decodeSixBit, encodeSixBit } from "./k4";
import { matmulTilesK } from "./tile-k";

export const Q4K_BLOCK_ELEMENTS: i32 = 256;
export const Q4K_BLOCK_BYTES: i32 = 144;

export function q4_k_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  return encodeSixBit(src, importance, dst, rows, width, 15, false);
}

export function q4_k_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  return encodeSixBit(src, importance, dst, rows, width, 15, true);
}

export function q4_k_dequantize(src: usize, dst: usize, count: i32): void {
  for (const end = dst + (<usize>count << 2); dst < end; src += 144, dst += 1024) decodeSixBit(src, dst, 15);
}

export function q4_k_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTilesK(weights, activations, out, outputs, rows, width, outStride, 4);
}
