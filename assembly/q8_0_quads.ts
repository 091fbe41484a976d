// Q8_0 in fours of rows, and its product with one row of activations. A four has, block by block, eight vectors of codes and
// four scales: vector t holds codes 4t and 4t+2 of each row, then codes 4t+1 and 4t+3 of each, so that either half widens to a
// vector in which lane r is of row r. A lane's sum is a row's sum and nothing is added across lanes. The floats keep ggml's
// order: one step per block, blocks in order.
//
// Lost (Q8_0, one row, AMD EPYC): rows as they are stored, four blocks at a time and their sums brought together by shuffles,
// half the speed; codes of a row side by side, split by a shift and a mask, and two fours at a time: as fast in the cache, but
// three quarters of the speed from memory, where the work between two loads keeps them from waiting together.

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
        for (let t: usize = 0; t < 8; t++) {
          const codes = load<u32>(block + (t << 2), 2);
          const to = out + (t << 4) + (r << 1);
          store<u16>(to, (codes & 0xff) | ((codes >> 8) & 0xff00));
          store<u16>(to, ((codes >> 8) & 0xff) | ((codes >> 16) & 0xff00), 8);
        }
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
      for (let t: usize = 0; t < 8; t++) {
        const from = quad + (t << 4) + (r << 1);
        const even = load<u16>(from) as u32;
        const odd = load<u16>(from, 8) as u32;
        const codes = (even & 0xff) | ((odd & 0xff) << 8) | ((even & 0xff00) << 8) | ((odd & 0xff00) << 16);
        store<u32>(block + (t << 2), codes, 2);
      }
    }
  }
}

/** Adds the products of vector t of a four's codes. */
// @ts-ignore: decorator
@inline
function products(sum: v128, codes: usize, even: v128, odd: v128): v128 {
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.load8x8_s(codes), even));
  return i32x4.add(sum, i32x4.dot_i16x8_s(v128.load8x8_s(codes, 8), odd));
}

/** The float step of one block of a four. */
// @ts-ignore: decorator
@inline
function step(sum: v128, integers: v128, quad: usize, dy: v128): v128 {
  const d = floatsFromLow(v128.load64_zero(quad, Q8_0_QUAD_SCALES));
  return f32x4.add(sum, f32x4.mul(f32x4.mul(d, dy), f32x4.convert_i32x4_s(integers)));
}

// @ts-ignore: decorator
@inline
function storeRows(out: usize, sums: v128, rows: i32): void {
  if (rows > 0) v128.store_lane<i32>(out, sums, 0);
  if (rows > 1) v128.store_lane<i32>(out, sums, 1, 4);
  if (rows > 2) v128.store_lane<i32>(out, sums, 2, 8);
  if (rows > 3) v128.store_lane<i32>(out, sums, 3, 12);
}

/** out[o] = row o · activations, which q8_0_widen_pairs made. Four fours at a time share what is loaded of the activations. */
export function q8_0_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  const blocks = <usize>(width >> 5);
  const fourBytes = blocks * Q8_0_QUAD_BYTES;
  for (; outputs > 0; outputs -= 16, out += 64, weights += fourBytes << 2) {
    // The first four takes the place of those that are missing, and their results are dropped.
    const toB = outputs > 4 ? fourBytes : 0;
    const toC = outputs > 8 ? fourBytes << 1 : 0;
    const toD = outputs > 12 ? fourBytes * 3 : 0;
    let sumA = f32x4.splat(0);
    let sumB = sumA;
    let sumC = sumA;
    let sumD = sumA;
    let w = weights;
    let y = activations;
    for (const end = y + blocks * PAIRS_BYTES; y < end; y += PAIRS_BYTES, w += Q8_0_QUAD_BYTES) {
      let a = i32x4.splat(0);
      let b = a;
      let c = a;
      let d = a;
      for (let i: usize = 0; i < 128; i += 16) {
        const even = v128.load(y + (i << 1));
        const odd = v128.load(y + (i << 1), 16);
        a = products(a, w + i, even, odd);
        b = products(b, w + toB + i, even, odd);
        c = products(c, w + toC + i, even, odd);
        d = products(d, w + toD + i, even, odd);
      }
      const dy = v128.load(y, PAIRS_SCALE);
      sumA = step(sumA, a, w, dy);
      sumB = step(sumB, b, w + toB, dy);
      sumC = step(sumC, c, w + toC, dy);
      sumD = step(sumD, d, w + toD, dy);
    }
    storeRows(out, sumA, outputs);
    storeRows(out + 16, sumB, outputs - 4);
    storeRows(out + 32, sumC, outputs - 8);
    storeRows(out + 48, sumD, outputs - 12);
  }
}
