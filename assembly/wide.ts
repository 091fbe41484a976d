// Activations in the forms that the integer products read: codes as 16-bit integers in the order of the weights, beside what
// else a block needs. Made once for all rows of a weight; a third of the time of a product was spent on widening before.

import { floatsFromHalves, loadHalf } from "./f16";

/** A block of Q8_K, one row: 256 codes in order; the sums of 32 codes, 16 bits each; the scale. */
export const WIDE_SUMS: usize = 512;
export const WIDE_SCALE: usize = 528;
export const WIDE_K_BYTES: usize = 544;

/** Four blocks of Q8_0 or Q8_1, one row: 128 codes; the four scales; the four stored sums (Q8_1). Short ends are zeros. */
export const WIDE_SCALES: usize = 256;
export const WIDE_S: usize = 272;
export const WIDE_FOUR_BYTES: usize = 288;

/** A block of Q8_K, four rows: see {@link q8_k_widen_four}. */
export const FOUR_K_HALF: usize = 1024;
export const FOUR_K_SUMS16: usize = 2048;
export const FOUR_K_SUMS32: usize = 2176;
export const FOUR_K_SCALES: usize = 2240;
export const FOUR_K_BYTES: usize = 2304;

/** A block of Q8_0 or Q8_1, four rows: see {@link q8_0_widen_four}. */
export const FOUR_SCALES: usize = 256;
export const FOUR_S: usize = 272;
export const FOUR_BYTES: usize = 288;

/** A block of Q8_0, one row, every pair of codes four times: see {@link q8_0_widen_pairs}. */
export const PAIRS_SCALE: usize = 256;
export const PAIRS_BYTES: usize = 272;

// @ts-ignore: decorator
@inline
function widen(src: usize, dst: usize, count: usize): void {
  for (let i: usize = 0; i < count; i += 16) {
    const codes = v128.load(src + i);
    v128.store(dst + (i << 1), i16x8.extend_low_i8x16_s(codes));
    v128.store(dst + (i << 1), i16x8.extend_high_i8x16_s(codes), 16);
  }
}

/** The eight sums of 32 codes of a Q8_K block, from its sixteen of 16. */
// @ts-ignore: decorator
@inline
function sumsOf32(src: usize): v128 {
  const ones = i16x8.splat(1);
  // Two sums of 16 are below 2^15.
  return i16x8.narrow_i32x4_s(
    i32x4.dot_i16x8_s(v128.load(src, 260), ones),
    i32x4.dot_i16x8_s(v128.load(src, 276), ones),
  );
}

export function q8_k_widen(src: usize, dst: usize, rows: i32, width: i32): void {
  for (let blocks = rows * (width >> 8); blocks > 0; blocks--, src += 292, dst += WIDE_K_BYTES) {
    widen(src + 4, dst, 256);
    v128.store(dst + WIDE_SUMS, sumsOf32(src));
    store<f32>(dst + WIDE_SCALE, load<f32>(src));
  }
}

/** Codes A[k] and B[k], k = 0..7, eight bytes each, as words A0 B0 A1 B1 … at `dst` and `dst + step`. */
// @ts-ignore: decorator
@inline
function interleave(a: v128, b: v128, dst: usize, step: usize): void {
  v128.store(dst, v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
  v128.store(dst + step, v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15));
}

/**
 * Activations of Q4_K rows in fours (q4_k_quads.ts), where 16-bit word w holds the codes n0..n3 of elements 8 apart as
 * nibbles. Modulo 2^16, n_j = (w >> 4j) - 16·(w >> 4(j+1)), so Σ n_j·q_j = Σ (w >> 4j)·(q_j - 16·q_(j-1)): no nibble is masked
 * out, and what is stored here is q_j - 16·q_(j-1). Words of sub-blocks 2g and 2g + 1 take turns, lanes 0..3 first.
 */
export function q8_k_widen_nibbles(src: usize, dst: usize, rows: i32, width: i32): void {
  for (let blocks = rows * (width >> 8); blocks > 0; blocks--, src += 292, dst += WIDE_K_BYTES) {
    for (let g: usize = 0; g < 4; g++) {
      const codes = src + 4 + (g << 6);
      const out = dst + (g << 7);
      let a = i16x8.splat(0);
      let b = a;
      for (let j: usize = 0; j < 4; j++) {
        const nextA = v128.load8x8_s(codes + (j << 3));
        const nextB = v128.load8x8_s(codes + (j << 3), 32);
        interleave(i16x8.sub(nextA, i16x8.shl(a, 4)), i16x8.sub(nextB, i16x8.shl(b, 4)), out + (j << 4), 64);
        a = nextA;
        b = nextB;
      }
    }
    v128.store(dst + WIDE_SUMS, sumsOf32(src));
    store<f32>(dst + WIDE_SCALE, load<f32>(src));
  }
}

/**
 * A multiple of four rows, in fours, block by block. Per block two halves (lanes 0..3 and 4..7 of the eight), in each sixteen
 * steps u = 4g + j of one vector per row: codes 64g + 8j + k and 64g + 32 + 8j + k take turns. Behind them each row's sums of
 * 16 and of 32 codes, and the four scales.
 */
export function q8_k_widen_four(src: usize, dst: usize, rows: i32, width: i32): void {
  const blocks = <usize>(width >> 8);
  const rowBytes = blocks * 292;
  for (; rows > 0; rows -= 4, dst += blocks * FOUR_K_BYTES) {
    for (let r: usize = 0; r < 4; r++) {
      let out = dst;
      for (const end = src + rowBytes; src < end; src += 292, out += FOUR_K_BYTES) widenBlockOfFour(src, out, r);
    }
  }
}

// @ts-ignore: decorator
@inline
function widenBlockOfFour(block: usize, out: usize, row: usize): void {
  for (let u: usize = 0; u < 16; u++) {
    const codes = block + 4 + ((u >> 2) << 6) + ((u & 3) << 3);
    const to = out + (u << 6) + (row << 4);
    interleave(v128.load8x8_s(codes), v128.load8x8_s(codes, 32), to, FOUR_K_HALF);
  }
  v128.store(out + FOUR_K_SUMS16 + (row << 5), v128.load(block, 260));
  v128.store(out + FOUR_K_SUMS16 + (row << 5), v128.load(block, 276), 16);
  v128.store(out + FOUR_K_SUMS32 + (row << 4), sumsOf32(block));
  store<f32>(out + FOUR_K_SCALES + (row << 2), load<f32>(block));
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

/** Codes 4t, 4t + 2 and 4t + 1, 4t + 3 as the words of lanes: the order of the weights in splitBytes (tile32.ts). */
// @ts-ignore: decorator
@inline
function evenPairs(codes: v128): v128 {
  return i16x8.shr_s(i16x8.shl(codes, 8), 8);
}

// @ts-ignore: decorator
@inline
function oddPairs(codes: v128): v128 {
  return i16x8.shr_s(codes, 8);
}

/**
 * A multiple of four rows, in fours, block by block. Per block sixteen steps: step 2t has codes 4t and 4t + 2 of each row,
 * step 2t + 1 codes 4t + 1 and 4t + 3, 32 bits a row. Behind them the scales, and the stored sums (Q8_1).
 */
export function q8_0_widen_four(src: usize, dst: usize, rows: i32, width: i32): void {
  widenRowsOfFour(src, dst, rows, width >> 5, 34, 2);
}

export function q8_1_widen_four(src: usize, dst: usize, rows: i32, width: i32): void {
  widenRowsOfFour(src, dst, rows, width >> 5, 36, 4);
}

// @ts-ignore: decorator
@inline
function widenRowsOfFour(src: usize, dst: usize, rows: i32, blocks: i32, size: usize, codes: usize): void {
  const bytes = <usize>blocks * FOUR_BYTES;
  for (; rows > 0; rows -= 4, dst += bytes) {
    for (let r: usize = 0; r < 4; r++) {
      for (let out = dst; out < dst + bytes; out += FOUR_BYTES, src += size) {
        const at = out + (r << 2);
        for (let t: usize = 0; t < 8; t++) {
          const four = v128.load32_zero(src + codes + (t << 2));
          v128.store_lane<i32>(at + (t << 5), evenPairs(four), 0);
          v128.store_lane<i32>(at + (t << 5), oddPairs(four), 0, 16);
        }
        store<f32>(at, loadHalf(src), FOUR_SCALES);
        store<f32>(at, codes == 4 ? loadHalf(src + 2) : 0, FOUR_S);
      }
    }
  }
}

/**
 * One row for weights in fours of rows (q8_0_quads.ts), which have one lane each: all lanes want the same codes. Step 2t of
 * a block has the pair 4t, 4t + 2 in every lane, step 2t + 1 the pair 4t + 1, 4t + 3. Behind them the scale, four times.
 */
export function q8_0_widen_pairs(src: usize, dst: usize, rows: i32, width: i32): void {
  for (let blocks = rows * (width >> 5); blocks > 0; blocks--, src += 34, dst += PAIRS_BYTES) {
    for (let t: usize = 0; t < 8; t++) {
      const four = v128.load32_splat(src + 2 + (t << 2));
      v128.store(dst + (t << 5), evenPairs(four));
      v128.store(dst + (t << 5), oddPairs(four), 16);
    }
    v128.store(dst + PAIRS_SCALE, f32x4.splat(loadHalf(src)));
  }
}
