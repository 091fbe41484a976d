// Activations as the integer products read them: codes as 16-bit integers, so that no product widens them again, beside
// what else a block needs. Made once for all rows of a weight; a third of the time of a product was spent on widening.

import { floatsFromHalves } from "./f16";

/** A block of Q8_K: 256 codes; the sums of 32 codes, 16 bits each; the scale. */
export const WIDE_SUMS: usize = 512;
export const WIDE_SCALE: usize = 528;
export const WIDE_K_BYTES: usize = 544;

/** Four blocks of Q8_0 or Q8_1: 128 codes; the four scales; the four stored sums times scale (Q8_1). Short ends are zeros. */
export const WIDE_SCALES: usize = 256;
export const WIDE_S: usize = 272;
export const WIDE_FOUR_BYTES: usize = 288;

// @ts-ignore: decorator
@inline
function widen(src: usize, dst: usize, count: usize): void {
  for (let i: usize = 0; i < count; i += 16) {
    const codes = v128.load(src + i);
    v128.store(dst + (i << 1), i16x8.extend_low_i8x16_s(codes));
    v128.store(dst + (i << 1), i16x8.extend_high_i8x16_s(codes), 16);
  }
}

export function q8_k_widen(src: usize, dst: usize, rows: i32, width: i32): void {
  const ones = i16x8.splat(1);
  for (let blocks = rows * (width >> 8); blocks > 0; blocks--, src += 292, dst += WIDE_K_BYTES) {
    widen(src + 4, dst, 256);
    // Two sums of 16 are below 2^15.
    const first = i32x4.dot_i16x8_s(v128.load(src, 260), ones);
    const second = i32x4.dot_i16x8_s(v128.load(src, 276), ones);
    v128.store(dst + WIDE_SUMS, i16x8.narrow_i32x4_s(first, second));
    store<f32>(dst + WIDE_SCALE, load<f32>(src));
  }
}

export function q8_0_widen(src: usize, dst: usize, rows: i32, width: i32): void {
  widenFours(src, dst, rows, width >> 5, 34, 2);
}

export function q8_1_widen(src: usize, dst: usize, rows: i32, width: i32): void {
  widenFours(src, dst, rows, width >> 5, 36, 4);
}

// @ts-ignore: decorator
@inline
function widenFours(src: usize, dst: usize, rows: i32, blocks: i32, size: usize, codes: usize): void {
  for (; rows > 0; rows--) {
    for (let first = 0; first < blocks; first += 4, dst += WIDE_FOUR_BYTES) {
      memory.fill(dst, 0, WIDE_FOUR_BYTES);
      const count = <usize>min<i32>(4, blocks - first);
      for (let b: usize = 0; b < count; b++, src += size) {
        widen(src + codes, dst + (b << 6), 32);
        store<u32>(dst + WIDE_SCALES + (b << 2), load<u16>(src));
        if (codes == 4) store<u32>(dst + WIDE_S + (b << 2), load<u16>(src, 2));
      }
      v128.store(dst + WIDE_SCALES, floatsFromHalves(v128.load(dst + WIDE_SCALES)));
      v128.store(dst + WIDE_S, floatsFromHalves(v128.load(dst + WIDE_S)));
    }
  }
}
