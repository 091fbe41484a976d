// Q8_K: x ≈ d·q, binary32 scale, sums of 16 codes. Also the activations of the K types.

import { signedPeak, storeDecoded } from "./block32";
import { codeInts, nearestInts, packSignedBytes } from "./lanes";

export const Q8K_BLOCK_ELEMENTS: i32 = 256;
export const Q8K_BLOCK_BYTES: i32 = 292;
const QS: usize = 4;
const BSUMS: usize = 260;

/** min(127, nearest) narrowed to a byte: the low byte of the integer, for any product; candle saturates. */
// @ts-ignore: decorator
@inline
function codes(x: v128, iscale: v128, candle: bool): v128 {
  const v = f32x4.mul(iscale, x);
  if (candle) return codeInts(v, -128, 127, true);
  const low = i32x4.min_s(nearestInts(v), i32x4.splat(127));
  return i32x4.shr_s(i32x4.shl(low, 24), 24);
}

function encode(src: usize, dst: usize, count: i32, candle: bool): void {
  for (const end = src + (<usize>count << 2); src < end; dst += 292) {
    const peak = signedPeak(src, 256);
    if (peak == 0) {
      // ggml leaves the sums as they were and expects a zeroed buffer.
      memory.fill(dst, 0, 292);
      src += 1024;
      continue;
    }
    const iscale: f32 = <f32>-127 / peak;
    const scales = f32x4.splat(iscale);
    for (let j: usize = 0; j < 16; j++, src += 64) {
      const bytes = packSignedBytes(
        codes(v128.load(src), scales, candle),
        codes(v128.load(src, 16), scales, candle),
        codes(v128.load(src, 32), scales, candle),
        codes(v128.load(src, 48), scales, candle),
      );
      v128.store(dst + (j << 4), bytes, QS);
      let sums = i32x4.extadd_pairwise_i16x8_s(i16x8.extadd_pairwise_i8x16_s(bytes));
      sums = i32x4.add(sums, v128.shuffle<i32>(sums, sums, 2, 3, 0, 1));
      store<i16>(dst + (j << 1), i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1), BSUMS);
    }
    store<f32>(dst, <f32>1 / iscale);
  }
}

export function q8_k_quantize_ggml(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  encode(src, dst, rows * width, false);
  return 0;
}

export function q8_k_quantize_mistralrs(src: usize, importance: usize, dst: usize, rows: i32, width: i32): i32 {
  encode(src, dst, rows * width, true);
  return 0;
}

export function q8_k_dequantize(src: usize, dst: usize, count: i32): void {
  for (const end = dst + (<usize>count << 2); dst < end; src += 292) {
    const d = f32x4.splat(load<f32>(src));
    for (let i: usize = 0; i < 256; i += 16, dst += 64) storeDecoded(v128.load(src + i, QS), d, d, false, dst);
  }
}
