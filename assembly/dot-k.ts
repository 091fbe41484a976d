// Integer matrix products of the K types with Q8_K activations, in ggml's order (program.ts, spec section 6): element i of
// a block goes to integer lane i mod 8, a vector of eight 16-bit products is exactly those lanes, and their exact sums
// may be made in any order; the floats then keep eight lane sums over all blocks.
//
// A block's codes are unpacked once and meet all rows of activations.

import { loadHalf } from "./f16";
import { LANE_SUMS, UNPACKED, UNPACKED_D, UNPACKED_DMIN, UNPACKED_MINS, UNPACKED_SCALES } from "./memory";
import { unpackQ2K, unpackQ3K, unpackQ4K, unpackQ5K, unpackQ6K, unpackSixBitPairs } from "./unpack";
import { WIDE_K_BYTES, WIDE_SCALE, WIDE_SUMS } from "./wide";

/** Rows whose lane sums fit in scratch; more are taken in turns. */
const MOST_ROWS: i32 = 256;
/** Eight lanes and the sum of minima. */
const ROW_SUMS: usize = 48;
const MINIMA: usize = 32;

/** Products of sixteen codes, two to a lane. */
// @ts-ignore: decorator
@inline
function sixteen(c0: v128, c1: v128, q: usize): v128 {
  return i16x8.add(i16x8.mul(c0, v128.load(q)), i16x8.mul(c1, v128.load(q, 16)));
}

/** Lanes 0..3 (`low`) or 4..7 of a·scale + b·nextScale. */
// @ts-ignore: decorator
@inline
function scaled(a: v128, b: v128, scales: v128, low: bool): v128 {
  const pairs = low
    ? v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
    : v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  return i32x4.dot_i16x8_s(pairs, scales);
}

/** Adds d times the integer lanes to a row's sums. */
// @ts-ignore: decorator
@inline
function addLanes(low: v128, high: v128, d: f32, sums: usize): void {
  const ds = f32x4.splat(d);
  v128.store(sums, f32x4.add(v128.load(sums), f32x4.mul(ds, f32x4.convert_i32x4_s(low))));
  v128.store(sums, f32x4.add(v128.load(sums, 16), f32x4.mul(ds, f32x4.convert_i32x4_s(high))), 16);
}

// @ts-ignore: decorator
@inline
function total(v: v128): i32 {
  const pair = i32x4.add(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return i32x4.extract_lane(pair, 0) + i32x4.extract_lane(pair, 1);
}

/** Σ of sums of 32 codes times their minima. */
// @ts-ignore: decorator
@inline
function minimaOf(y: usize): i32 {
  return total(i32x4.dot_i16x8_s(v128.load(y, WIDE_SUMS), v128.load(UNPACKED_MINS)));
}

/** Of Q2_K, whose minima are of 16 codes: the codes are summed anew, each times its minimum. */
// @ts-ignore: decorator
@inline
function minimaOfSixteens(y: usize): i32 {
  let sum = i32x4.splat(0);
  for (let g: usize = 0; g < 16; g++, y += 32) {
    const m = i16x8.splat(load<i16>(UNPACKED_MINS + (g << 1)));
    sum = i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.add(v128.load(y), v128.load(y, 16)), m));
  }
  return total(sum);
}

/** Puts the integer lanes of one block into a row's float sums. `type`: 2..6 for Q2_K..Q6_K. */
// @ts-ignore: decorator
@inline
function finishBlock(low: v128, high: v128, y: usize, sums: usize, type: i32): void {
  const dy = load<f32>(y, WIDE_SCALE);
  if (type == 2) {
    const products = <f32>total(i32x4.add(low, high));
    const minima = <f32>minimaOfSixteens(y);
    const d = dy * load<f32>(UNPACKED_D);
    const dmin = dy * load<f32>(UNPACKED_DMIN);
    store<f32>(sums, load<f32>(sums) + (d * products - dmin * minima));
    return;
  }
  addLanes(low, high, load<f32>(UNPACKED_D) * dy, sums);
  if (type == 4 || type == 5) {
    const minima = load<f32>(UNPACKED_DMIN) * dy * <f32>minimaOf(y);
    store<f32>(sums, load<f32>(sums, MINIMA) - minima, MINIMA);
  }
}

/** One unpacked block times one row. */
// @ts-ignore: decorator
@inline
function dotBlock(y: usize, sums: usize, type: i32): void {
  let low = i32x4.splat(0);
  let high = i32x4.splat(0);
  if (type == 4 || type == 5) {
    for (let g: usize = 0; g < 4; g++) {
      const c = UNPACKED + (g << 6);
      const q = y + (g << 7);
      const a = i16x8.add(
        sixteen(v128.load8x8_s(c), v128.load8x8_s(c, 8), q),
        sixteen(v128.load8x8_s(c, 16), v128.load8x8_s(c, 24), q + 32),
      );
      const b = i16x8.add(
        sixteen(v128.load8x8_s(c, 32), v128.load8x8_s(c, 40), q + 64),
        sixteen(v128.load8x8_s(c, 48), v128.load8x8_s(c, 56), q + 96),
      );
      const scales = v128.load32_splat(UNPACKED_SCALES + (g << 2));
      low = i32x4.add(low, scaled(a, b, scales, true));
      high = i32x4.add(high, scaled(a, b, scales, false));
    }
  } else {
    for (let g: usize = 0; g < 8; g++) {
      const c = UNPACKED + (g << 5);
      const q = y + (g << 6);
      const a = sixteen(v128.load8x8_s(c), v128.load8x8_s(c, 8), q);
      const b = sixteen(v128.load8x8_s(c, 16), v128.load8x8_s(c, 24), q + 32);
      const scales = v128.load32_splat(UNPACKED_SCALES + (g << 2));
      low = i32x4.add(low, scaled(a, b, scales, true));
      high = i32x4.add(high, scaled(a, b, scales, false));
    }
  }
  finishBlock(low, high, y, sums, type);
}

/** One unpacked block times four rows: each code is loaded and widened once for the four. */
// @ts-ignore: decorator
@inline
function dotBlockFour(y0: usize, stride: usize, sums: usize, type: i32): void {
  const y1 = y0 + stride;
  const y2 = y1 + stride;
  const y3 = y2 + stride;
  let low0 = i32x4.splat(0);
  let low1 = low0;
  let low2 = low0;
  let low3 = low0;
  let high0 = low0;
  let high1 = low0;
  let high2 = low0;
  let high3 = low0;
  for (let g: usize = 0; g < 8; g++) {
    const c = UNPACKED + (g << 5);
    const c0 = v128.load8x8_s(c);
    const c1 = v128.load8x8_s(c, 8);
    const c2 = v128.load8x8_s(c, 16);
    const c3 = v128.load8x8_s(c, 24);
    // A sub-block of 32 has one scale for both halves.
    const scales =
      type == 4 || type == 5
        ? i16x8.splat(load<i16>(UNPACKED_SCALES + (g << 1)))
        : v128.load32_splat(UNPACKED_SCALES + (g << 2));
    const at = g << 6;
    let a = sixteen(c0, c1, y0 + at);
    let b = sixteen(c2, c3, y0 + at + 32);
    low0 = i32x4.add(low0, scaled(a, b, scales, true));
    high0 = i32x4.add(high0, scaled(a, b, scales, false));
    a = sixteen(c0, c1, y1 + at);
    b = sixteen(c2, c3, y1 + at + 32);
    low1 = i32x4.add(low1, scaled(a, b, scales, true));
    high1 = i32x4.add(high1, scaled(a, b, scales, false));
    a = sixteen(c0, c1, y2 + at);
    b = sixteen(c2, c3, y2 + at + 32);
    low2 = i32x4.add(low2, scaled(a, b, scales, true));
    high2 = i32x4.add(high2, scaled(a, b, scales, false));
    a = sixteen(c0, c1, y3 + at);
    b = sixteen(c2, c3, y3 + at + 32);
    low3 = i32x4.add(low3, scaled(a, b, scales, true));
    high3 = i32x4.add(high3, scaled(a, b, scales, false));
  }
  finishBlock(low0, high0, y0, sums, type);
  finishBlock(low1, high1, y1, sums + ROW_SUMS, type);
  finishBlock(low2, high2, y2, sums + 2 * ROW_SUMS, type);
  finishBlock(low3, high3, y3, sums + 3 * ROW_SUMS, type);
}

// @ts-ignore: decorator
@inline
function unpack(block: usize, type: i32): void {
  if (type == 2) unpackQ2K(block);
  else if (type == 3) unpackQ3K(block);
  else if (type == 4) unpackQ4K(block);
  else if (type == 5) unpackQ5K(block);
  else unpackQ6K(block);
}

/** minima + S_0, + S_1 … + S_7. */
// @ts-ignore: decorator
@inline
function sumOfRow(sums: usize, type: i32): f32 {
  if (type == 2) return load<f32>(sums);
  let sum = load<f32>(sums, MINIMA);
  for (let lane: usize = 0; lane < 32; lane += 4) sum += load<f32>(sums + lane);
  return sum;
}

/**
 * Q4_K with one row: nibbles become 16-bit codes in registers, and the lane sums stay there.
 * Lost: codes through scratch bytes as above, 7.9 instead of 11.5 G products per second (AMD EPYC); the four groups unrolled by hand, 7.9, because each nibble was loaded twice.
 */
function matmulQ4KRow(weights: usize, activations: usize, out: usize, outputs: i32, blocks: i32): void {
  const mask = i16x8.splat(15);
  for (; outputs > 0; outputs--, out += 4) {
    let sumLow = f32x4.splat(0);
    let sumHigh = f32x4.splat(0);
    let minima: f32 = 0;
    let y = activations;
    for (let b = 0; b < blocks; b++, weights += 144, y += WIDE_K_BYTES) {
      unpackSixBitPairs(weights);
      let low = i32x4.splat(0);
      let high = i32x4.splat(0);
      for (let g: usize = 0; g < 4; g++) {
        const bytes = weights + 16 + (g << 5);
        const q = y + (g << 7);
        const w0 = v128.load8x8_u(bytes);
        const w1 = v128.load8x8_u(bytes, 8);
        const w2 = v128.load8x8_u(bytes, 16);
        const w3 = v128.load8x8_u(bytes, 24);
        const a = i16x8.add(
          sixteen(v128.and(w0, mask), v128.and(w1, mask), q),
          sixteen(v128.and(w2, mask), v128.and(w3, mask), q + 32),
        );
        const c = i16x8.add(
          sixteen(i16x8.shr_u(w0, 4), i16x8.shr_u(w1, 4), q + 64),
          sixteen(i16x8.shr_u(w2, 4), i16x8.shr_u(w3, 4), q + 96),
        );
        const pair = i32x4.splat(load<i32>(UNPACKED_SCALES + (g << 2)));
        low = i32x4.add(low, scaled(a, c, pair, true));
        high = i32x4.add(high, scaled(a, c, pair, false));
      }
      const dy = load<f32>(y, WIDE_SCALE);
      const d = f32x4.splat(loadHalf(weights) * dy);
      sumLow = f32x4.add(sumLow, f32x4.mul(d, f32x4.convert_i32x4_s(low)));
      sumHigh = f32x4.add(sumHigh, f32x4.mul(d, f32x4.convert_i32x4_s(high)));
      minima -= loadHalf(weights + 2) * dy * <f32>minimaOf(y);
    }
    v128.store(LANE_SUMS, sumLow);
    v128.store(LANE_SUMS, sumHigh, 16);
    store<f32>(LANE_SUMS, minima, MINIMA);
    store<f32>(out, sumOfRow(LANE_SUMS, 4));
  }
}

/** out[r·outStride + o] = weight row o · activation row r. */
// @ts-ignore: decorator
@inline
export function matmulK(
  weights: usize,
  activations: usize,
  out: usize,
  outputs: i32,
  rows: i32,
  width: i32,
  outStride: i32,
  type: i32,
  blockBytes: usize,
): void {
  const blocks = width >> 8;
  const stride = <usize>blocks * WIDE_K_BYTES;
  if (type == 4 && rows == 1) {
    matmulQ4KRow(weights, activations, out, outputs, blocks);
    return;
  }
  for (; rows > 0; rows -= MOST_ROWS) {
    const count = min<i32>(rows, MOST_ROWS);
    let block = weights;
    for (let o = 0; o < outputs; o++) {
      memory.fill(LANE_SUMS, 0, <usize>count * ROW_SUMS);
      for (let b = 0; b < blocks; b++, block += blockBytes) {
        unpack(block, type);
        let y = activations + <usize>b * WIDE_K_BYTES;
        let sums = LANE_SUMS;
        let r = 0;
        for (; r + 4 <= count; r += 4, y += stride << 2, sums += 4 * ROW_SUMS) dotBlockFour(y, stride, sums, type);
        for (; r < count; r++, y += stride, sums += ROW_SUMS) dotBlock(y, sums, type);
      }
      let result = out + (<usize>o << 2);
      let sums = LANE_SUMS;
      for (let r = 0; r < count; r++, sums += ROW_SUMS, result += <usize>outStride << 2) {
        store<f32>(result, sumOfRow(sums, type));
      }
    }
    activations += <usize>count * stride;
    out += <usize>(count * outStride) << 2;
  }
}
