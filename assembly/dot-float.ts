// Matrix products of weights that are decoded to binary32: F32, F16, BF16, and (in their own files) FP8 and HQQ. The dot has
// the eight lanes of program.ts: element i goes to lane i mod 8, which two vectors are exactly.
//
// A run of a weight row is decoded once and meets all rows of activations; each row's lane sums wait in scratch.

import { bf16_decode, f16_decode } from "./f16";
import { sumLanes } from "./forward";
import { DECODED, DECODED_ELEMENTS, LANE_SUMS, PADDED } from "./memory";

/** Rows whose lane sums fit in scratch; more are taken in turns. */
export const MOST_ROWS: i32 = 512;

export function clearSums(rows: i32): void {
  memory.fill(LANE_SUMS, 0, <usize>rows << 5);
}

/** Adds `elements` products to the sums of every row. Only the last run of a row may be no multiple of eight. */
export function multiplyChunk(w: usize, x: usize, elements: i32, width: i32, rows: i32): void {
  const stride = <usize>width << 2;
  const whole = <usize>(elements & ~7) << 2;
  let sums = LANE_SUMS;
  let row = x;
  let r = 0;
  for (; r + 4 <= rows; r += 4, row += stride << 2, sums += 128) multiplyFour(w, row, stride, whole, sums);
  for (; r < rows; r++, row += stride, sums += 32) {
    let low = v128.load(sums);
    let high = v128.load(sums, 16);
    for (let i: usize = 0; i < whole; i += 32) {
      low = f32x4.add(low, f32x4.mul(v128.load(w + i), v128.load(row + i)));
      high = f32x4.add(high, f32x4.mul(v128.load(w + i, 16), v128.load(row + i, 16)));
    }
    v128.store(sums, low);
    v128.store(sums, high, 16);
  }
  if (elements & 7) multiplyRest(w + whole, x + whole, elements & 7, stride, rows);
}

/** Four rows at once: each weight is loaded once, and eight sums hide each other's latency. */
// @ts-ignore: decorator
@inline
function multiplyFour(w: usize, x0: usize, stride: usize, bytes: usize, sums: usize): void {
  const x1 = x0 + stride;
  const x2 = x1 + stride;
  const x3 = x2 + stride;
  let low0 = v128.load(sums);
  let high0 = v128.load(sums, 16);
  let low1 = v128.load(sums, 32);
  let high1 = v128.load(sums, 48);
  let low2 = v128.load(sums, 64);
  let high2 = v128.load(sums, 80);
  let low3 = v128.load(sums, 96);
  let high3 = v128.load(sums, 112);
  for (let i: usize = 0; i < bytes; i += 32) {
    const a = v128.load(w + i);
    const b = v128.load(w + i, 16);
    low0 = f32x4.add(low0, f32x4.mul(a, v128.load(x0 + i)));
    high0 = f32x4.add(high0, f32x4.mul(b, v128.load(x0 + i, 16)));
    low1 = f32x4.add(low1, f32x4.mul(a, v128.load(x1 + i)));
    high1 = f32x4.add(high1, f32x4.mul(b, v128.load(x1 + i, 16)));
    low2 = f32x4.add(low2, f32x4.mul(a, v128.load(x2 + i)));
    high2 = f32x4.add(high2, f32x4.mul(b, v128.load(x2 + i, 16)));
    low3 = f32x4.add(low3, f32x4.mul(a, v128.load(x3 + i)));
    high3 = f32x4.add(high3, f32x4.mul(b, v128.load(x3 + i, 16)));
  }
  v128.store(sums, low0);
  v128.store(sums, high0, 16);
  v128.store(sums, low1, 32);
  v128.store(sums, high1, 48);
  v128.store(sums, low2, 64);
  v128.store(sums, high2, 80);
  v128.store(sums, low3, 96);
  v128.store(sums, high3, 112);
}

/** The last one to seven elements, padded with zeros: no lane sum is ever -0, so adding +0 changes nothing. */
function multiplyRest(w: usize, x: usize, elements: i32, stride: usize, rows: i32): void {
  const bytes = <usize>elements << 2;
  memory.fill(PADDED, 0, 64);
  memory.copy(PADDED, w, bytes);
  let sums = LANE_SUMS;
  for (let r = 0; r < rows; r++, x += stride, sums += 32) {
    memory.copy(PADDED + 32, x, bytes);
    v128.store(sums, f32x4.add(v128.load(sums), f32x4.mul(v128.load(PADDED), v128.load(PADDED, 32))));
    v128.store(sums, f32x4.add(v128.load(sums, 16), f32x4.mul(v128.load(PADDED, 16), v128.load(PADDED, 48))), 16);
  }
}

/** Writes ((S_0 + S_1) + S_2) … + S_7 of every row. */
export function storeOutput(out: usize, rows: i32, outStride: i32): void {
  let sums = LANE_SUMS;
  for (let r = 0; r < rows; r++, sums += 32, out += <usize>outStride << 2) {
    store<f32>(out, sumLanes(v128.load(sums), v128.load(sums, 16)));
  }
}

// @ts-ignore: decorator
@inline
function multiply(
  weights: usize,
  x: usize,
  out: usize,
  outputs: i32,
  rows: i32,
  width: i32,
  outStride: i32,
  elementBytes: i32,
  half: bool,
): void {
  for (; rows > 0; rows -= MOST_ROWS) {
    const count = min<i32>(rows, MOST_ROWS);
    let w = weights;
    for (let o = 0; o < outputs; o++) {
      clearSums(count);
      for (let first = 0; first < width; first += DECODED_ELEMENTS) {
        const elements = min<i32>(DECODED_ELEMENTS, width - first);
        let run = w;
        if (elementBytes == 2) {
          run = DECODED;
          if (half) f16_decode(w, DECODED, elements);
          else bf16_decode(w, DECODED, elements);
        }
        multiplyChunk(run, x + (<usize>first << 2), elements, width, count);
        w += <usize>(elements * elementBytes);
      }
      storeOutput(out + (<usize>o << 2), count, outStride);
    }
    x += <usize>count * width * 4;
    out += <usize>count * outStride * 4;
  }
}

/** out[r·outStride + o] = weight row o · activation row r, both binary32. */
export function f32_matmul(weights: usize, x: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  multiply(weights, x, out, outputs, rows, width, outStride, 4, false);
}

export function f16_matmul(weights: usize, x: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  multiply(weights, x, out, outputs, rows, width, outStride, 2, true);
}

export function bf16_matmul(weights: usize, x: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  multiply(weights, x, out, outputs, rows, width, outStride, 2, false);
}
