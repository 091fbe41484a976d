// Q8_0 in fours of rows, and its product with one row of activations. A four has, block by block, eight vectors of codes and
// four scales: lane r of vector t holds codes 4t..4t+3 of row r, so that a lane's sum is a row's sum and nothing is added
// across lanes. The floats keep ggml's order: one step per block, blocks in order.
//
// Lost (Q8_0, one row, AMD EPYC): rows as they are stored, four blocks at a time and their sums brought together by shuffles,
// half the speed.

import { floatsFromLow } from "./quads";
import { PAIRS_BYTES, PAIRS_SCALE } from "./wide";

export const Q8_0_QUAD_BYTES: usize = 136;
export const Q8_0_QUAD_SCALES: usize = 128;
const BLOCK: usize = 34;

/**
 * Puts rows into fours in place; there is room for a multiple of four, and rows that are missing become zeros. `spare` has
 * room for four rows.
 */
export function q8_0_pack(weights: usize, rows: i32, width: i32, spare: usize): void {
  const rowBytes = <usize>(width >> 5) * BLOCK;
  for (; rows > 0; rows -= 4, weights += rowBytes << 2) {
    const present = rowBytes * <usize>min<i32>(4, rows);
    memory.copy(spare, weights, present);
    memory.fill(spare + present, 0, (rowBytes << 2) - present);
    let out = weights;
    for (let at: usize = 0; at < rowBytes; at += BLOCK, out += Q8_0_QUAD_BYTES) {
      for (let r: usize = 0; r < 4; r++) {
        const block = spare + r * rowBytes + at;
        store<u16>(out + (r << 1), load<u16>(block), Q8_0_QUAD_SCALES);
        for (let t: usize = 0; t < 8; t++) store<u32>(out + (t << 4) + (r << 2), load<u32>(block + (t << 2), 2));
      }
    }
  }
}

/** The first `rows` rows of fours as they are stored. */
export function q8_0_unpack(quads: usize, dst: usize, rows: i32, width: i32): void {
  const rowBytes = <usize>(width >> 5) * BLOCK;
  for (let row = 0; row < rows; row++, dst += rowBytes) {
    const r = <usize>(row & 3);
    let quad = quads + <usize>(row & ~3) * rowBytes;
    for (let block = dst; block < dst + rowBytes; block += BLOCK, quad += Q8_0_QUAD_BYTES) {
      store<u16>(block, load<u16>(quad + (r << 1), Q8_0_QUAD_SCALES));
      for (let t: usize = 0; t < 8; t++) store<u32>(block + (t << 2), load<u32>(quad + (t << 4) + (r << 2)), 2);
    }
  }
}

/** Adds 256 times the products of 32 bytes of codes: the even codes by shifting them up, the odd ones where they are. */
// @ts-ignore: decorator
@inline
function products(sum: v128, w0: v128, w1: v128, upper: v128, q0: v128, q1: v128, q2: v128, q3: v128): v128 {
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.shl(w0, 8), q0));
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.and(w0, upper), q1));
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.shl(w1, 8), q2));
  return i32x4.add(sum, i32x4.dot_i16x8_s(v128.and(w1, upper), q3));
}

/** The float step of one block of a four. The integer sum is 256 times too large. */
// @ts-ignore: decorator
@inline
function step(sum: v128, integers: v128, quad: usize, dy: v128): v128 {
  const d = floatsFromLow(v128.load64_zero(quad, Q8_0_QUAD_SCALES));
  return f32x4.add(sum, f32x4.mul(f32x4.mul(d, dy), f32x4.convert_i32x4_s(i32x4.shr_s(integers, 8))));
}

// @ts-ignore: decorator
@inline
function storeRows(out: usize, sums: v128, rows: i32): void {
  v128.store_lane<i32>(out, sums, 0);
  if (rows > 1) v128.store_lane<i32>(out, sums, 1, 4);
  if (rows > 2) v128.store_lane<i32>(out, sums, 2, 8);
  if (rows > 3) v128.store_lane<i32>(out, sums, 3, 12);
}

/** out[o] = row o · activations, which q8_0_widen_pairs made. Two fours at a time share what is loaded of the activations. */
export function q8_0_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  const blocks = <usize>(width >> 5);
  const upper = i16x8.splat(<i16>0xff00);
  for (; outputs > 0; outputs -= 8, out += 32) {
    // Without a second four the first one takes its place, and its result is dropped.
    const second = outputs > 4 ? blocks * Q8_0_QUAD_BYTES : 0;
    let sumA = f32x4.splat(0);
    let sumB = sumA;
    let y = activations;
    for (const end = y + blocks * PAIRS_BYTES; y < end; y += PAIRS_BYTES, weights += Q8_0_QUAD_BYTES) {
      const w = weights + second;
      let a = i32x4.splat(0);
      let b = a;
      for (let i: usize = 0; i < 128; i += 32) {
        const q = y + (i << 1);
        const q0 = v128.load(q);
        const q1 = v128.load(q, 16);
        const q2 = v128.load(q, 32);
        const q3 = v128.load(q, 48);
        a = products(a, v128.load(weights + i), v128.load(weights + i, 16), upper, q0, q1, q2, q3);
        b = products(b, v128.load(w + i), v128.load(w + i, 16), upper, q0, q1, q2, q3);
      }
      const dy = v128.load(y, PAIRS_SCALE);
      sumA = step(sumA, a, weights, dy);
      sumB = step(sumB, b, w, dy);
    }
    weights += second;
    storeRows(out, sumA, outputs);
    if (outputs > 4) storeRows(out + 16, sumB, outputs - 4);
  }
}
