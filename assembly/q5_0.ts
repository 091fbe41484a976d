// Q5_0: x ≈ d·(code - 16), fifth bits apart.

import { encodeSymmetric32 } from "./symmetric32";
import { fifthBytes, storeDecoded } from "./block32";
import { matvec32, Q5_0 } from "./dot32";
import { matmulTiles32 } from "./tile32";
import { loadHalf } from "./f16";
import { searchSymmetricRows } from "./searched32";

export const Q5_0_BLOCK_ELEMENTS: i32 = 32;
export const Q5_0_BLOCK_BYTES: i32 = 22;
const QH: usize = 2;
const QS: usize = 6;

function encode(src: usize, dst: usize, count: i32, saturate: bool): void {
  for (const end = src + (<usize>count << 2); src < end; src += 128, dst += 22) encodeSymmetric32(src, dst, 16, saturate);
}

export function q5_0_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  if (importance == 0) encode(src, dst, rows * width, false);
  else searchSymmetricRows(src, importance, dst, rows, width, 16, 22);
  return 0;
}

export function q5_0_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  encode(src, dst, rows * width, true);
  return 0;
}

export function q5_0_dequantize(src: usize, dst: usize, count: i32): void {
  const mask = i8x16.splat(15);
  for (const end = dst + (<usize>count << 2); dst < end; src += 22, dst += 128) {
    const d = f32x4.splat(loadHalf(src));
    const nibbles = v128.load(src, QS);
    const high = load<i32>(src, QH);
    storeDecoded(i8x16.sub(v128.or(v128.and(nibbles, mask), fifthBytes(high, 0)), i8x16.splat(16)), d, d, false, dst);
    storeDecoded(i8x16.sub(v128.or(i8x16.shr_u(nibbles, 4), fifthBytes(high, 1)), i8x16.splat(16)), d, d, false, dst + 64);
  }
}

export function q5_0_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  matvec32(weights, activations, out, outputs, width, Q5_0, 22);
}

export function q5_0_matmul(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  matmulTiles32(weights, activations, out, outputs, rows, width, outStride, Q5_0, 22);
}
