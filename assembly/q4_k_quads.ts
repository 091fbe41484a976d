// Q4_K in fours of rows, and its product with one row of activations.
//
// A four has, block by block: four d and four dmin; 48 bytes of six-bit numbers (the low bits of each byte: scales of rows 0
// and 1, scales of rows 2 and 3, minima of rows 0 and 1; the two high bits of the three: minima of rows 2 and 3); the codes
// of each row, two vectors for a pair of sub-blocks A and B: word 2k of the first has codes k, k+8, k+16, k+24 of A as
// nibbles, word 2k+1 those of B; the second goes on from k = 4. So one multiplication of 16-bit pairs by (scale of A, scale
// of B) gives the integer lanes of ggml's order, 0..3 and 4..7.
//
// How products are made without masking nibbles is told at q8_k_widen_nibbles.
//
// Lost (one row of 1024, one core of an AMD EPYC, against 1.8 of this one): rows as they are stored with masked nibbles, 1.0; the
// same with nibbles in words, 1.3; words of A and B taking turns, 1.4. What they lose is the header of each block (a third of
// the time) and spilled registers: V8 puts all loads of a stretch of code in front, hence the barriers.

import { BARRIER, LANE_SUMS, QUAD_D, QUAD_SCALES, UNPACKED, UNPACKED_MINS, UNPACKED_SCALES } from "./memory";
import { floatsFromHigh, floatsFromLow, totals } from "./quads";
import { unpackQ4K } from "./unpack";
import { WIDE_K_BYTES, WIDE_SCALE, WIDE_SUMS } from "./wide";

export const Q4K_QUAD_BYTES: usize = 576;
/** Codes of a four; 128 bytes a row. */
export const Q4K_QUAD_CODES: usize = 64;
const SIXES: usize = 16;
const BLOCK: usize = 144;

/** Puts rows into fours in place; there is room for a multiple of four, and rows that are missing become zeros. `spare` has
 * room for four rows. */
export function q4_k_pack(weights: usize, rows: i32, width: i32, spare: usize): void {
  const rowBytes = <usize>(width >> 8) * BLOCK;
  for (; rows > 0; rows -= 4, weights += rowBytes << 2) {
    const present = rowBytes * <usize>min<i32>(4, rows);
    memory.copy(spare, weights, present);
    memory.fill(spare + present, 0, (rowBytes << 2) - present);
    for (let at: usize = 0; at < rowBytes; at += BLOCK) {
      const quad = weights + (at << 2);
      memory.fill(quad, 0, Q4K_QUAD_CODES);
      for (let r: usize = 0; r < 4; r++) packBlock(spare + r * rowBytes + at, quad, r);
    }
  }
}

function packBlock(block: usize, quad: usize, r: usize): void {
  unpackQ4K(block);
  store<u16>(quad + (r << 1), load<u16>(block));
  store<u16>(quad + (r << 1), load<u16>(block, 2), 8);
  for (let j: usize = 0; j < 8; j++) {
    const scale = quad + SIXES + (r << 3) + j;
    store<u8>(scale, load<u8>(scale) | load<u8>(UNPACKED_SCALES + (j << 1)));
    const m = load<u8>(UNPACKED_MINS + (j << 1));
    if (r < 2) {
      store<u8>(scale, load<u8>(scale, 32) | m, 32);
      continue;
    }
    const parts = scale - 16;
    store<u8>(parts, load<u8>(parts) | ((m >> 4) << 6));
    store<u8>(parts, load<u8>(parts, 16) | (((m >> 2) & 3) << 6), 16);
    store<u8>(parts, load<u8>(parts, 32) | ((m & 3) << 6), 32);
  }
  for (let g: usize = 0; g < 4; g++) {
    const a = wordsOf(UNPACKED + (g << 6));
    const b = wordsOf(UNPACKED + (g << 6) + 32);
    const out = quad + Q4K_QUAD_CODES + (r << 7) + (g << 5);
    v128.store(out, v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
    v128.store(out, v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15), 16);
  }
}

/** Word k: codes k, k+8, k+16, k+24. */
// @ts-ignore: decorator
@inline
function wordsOf(codes: usize): v128 {
  let words = v128.load8x8_u(codes);
  words = v128.or(words, i16x8.shl(v128.load8x8_u(codes, 8), 4));
  words = v128.or(words, i16x8.shl(v128.load8x8_u(codes, 16), 8));
  return v128.or(words, i16x8.shl(v128.load8x8_u(codes, 24), 12));
}

/** The first `rows` rows of fours as they are stored. */
export function q4_k_unpack(quads: usize, dst: usize, rows: i32, width: i32): void {
  const rowBytes = <usize>(width >> 8) * BLOCK;
  for (let row = 0; row < rows; row++, dst += rowBytes) {
    let quad = quads + <usize>(row & ~3) * rowBytes;
    for (let block = dst; block < dst + rowBytes; block += BLOCK, quad += Q4K_QUAD_BYTES) {
      unpackBlock(quad, block, <usize>(row & 3));
    }
  }
}

function unpackBlock(quad: usize, block: usize, r: usize): void {
  unpackSixes(quad);
  const mins = unpackMins(quad, r);
  store<u16>(block, load<u16>(quad + (r << 1)));
  store<u16>(block, load<u16>(quad + (r << 1), 8), 2);
  v128.store(UNPACKED_MINS, mins);
  for (let j: usize = 0; j < 4; j++) {
    const scale = QUAD_SCALES + (r << 4) + (j << 1);
    const m = UNPACKED_MINS + (j << 1);
    store<u8>(block + j, (load<u8>(scale) & 63) | ((load<u8>(scale, 8) >> 4) << 6), 4);
    store<u8>(block + j, (load<u8>(m) & 63) | ((load<u8>(m, 8) >> 4) << 6), 8);
    store<u8>(block + j, (load<u8>(scale, 8) & 15) | ((load<u8>(m, 8) & 15) << 4), 12);
  }
  for (let g: usize = 0; g < 4; g++) {
    const words = quad + Q4K_QUAD_CODES + (r << 7) + (g << 5);
    for (let k: usize = 0; k < 8; k++) {
      const a = load<u16>(words + (k << 2));
      const b = load<u16>(words + (k << 2), 2);
      const out = block + 16 + (g << 5) + k;
      store<u8>(out, (a & 15) | ((b & 15) << 4));
      store<u8>(out, ((a >> 4) & 15) | (b & 0xf0), 8);
      store<u8>(out, ((a >> 8) & 15) | ((b >> 4) & 0xf0), 16);
      store<u8>(out, (a >> 12) | ((b >> 8) & 0xf0), 24);
    }
  }
}

/** The scales of four rows as 16-bit integers, eight a row, at QUAD_SCALES. */
// @ts-ignore: decorator
@inline
export function unpackSixes(quad: usize): void {
  const low = i8x16.splat(63);
  let sixes = v128.and(v128.load(quad, SIXES), low);
  v128.store(QUAD_SCALES, i16x8.extend_low_i8x16_u(sixes));
  v128.store(QUAD_SCALES, i16x8.extend_high_i8x16_u(sixes), 16);
  sixes = v128.and(v128.load(quad, SIXES + 16), low);
  v128.store(QUAD_SCALES, i16x8.extend_low_i8x16_u(sixes), 32);
  v128.store(QUAD_SCALES, i16x8.extend_high_i8x16_u(sixes), 48);
}

/** Six-bit minima of rows 2 and 3, a byte each. */
// @ts-ignore: decorator
@inline
function upperMins(quad: usize): v128 {
  const high = v128.and(i16x8.shr_u(v128.load(quad, SIXES), 2), i8x16.splat(0x30));
  const middle = v128.and(i16x8.shr_u(v128.load(quad, SIXES + 16), 4), i8x16.splat(0x0c));
  const low = v128.and(i16x8.shr_u(v128.load(quad, SIXES + 32), 6), i8x16.splat(3));
  return v128.or(v128.or(high, middle), low);
}

/** The minima of a row as 16-bit integers. */
export function unpackMins(quad: usize, r: usize): v128 {
  const mins = r < 2 ? v128.and(v128.load(quad, SIXES + 32), i8x16.splat(63)) : upperMins(quad);
  return r & 1 ? i16x8.extend_high_i8x16_u(mins) : i16x8.extend_low_i8x16_u(mins);
}

/** Σ of sums of 32 codes times minima, a row in each lane. */
// @ts-ignore: decorator
@inline
function minimaOfFour(quad: usize, sums: v128): v128 {
  const first = v128.and(v128.load(quad, SIXES + 32), i8x16.splat(63));
  const second = upperMins(quad);
  return totals(
    i32x4.dot_i16x8_s(sums, i16x8.extend_low_i8x16_u(first)),
    i32x4.dot_i16x8_s(sums, i16x8.extend_high_i8x16_u(first)),
    i32x4.dot_i16x8_s(sums, i16x8.extend_low_i8x16_u(second)),
    i32x4.dot_i16x8_s(sums, i16x8.extend_high_i8x16_u(second)),
  );
}

/** Σ of four nibbles times codes, in 16 bits. */
// @ts-ignore: decorator
@inline
function nibbles(words: v128, q0: v128, q1: v128, q2: v128, q3: v128): v128 {
  let sum = i16x8.mul(words, q0);
  sum = i16x8.add(sum, i16x8.mul(i16x8.shr_u(words, 4), q1));
  sum = i16x8.add(sum, i16x8.mul(i16x8.shr_u(words, 8), q2));
  return i16x8.add(sum, i16x8.mul(i16x8.shr_u(words, 12), q3));
}

/** Keeps what comes before from being moved behind what comes after; see the top of this file. */
// @ts-ignore: decorator
@inline
function barrier(a: v128, b: v128): void {
  v128.store(BARRIER, a);
  v128.store(BARRIER, b, 16);
}

/** Adds d times four integer lanes. */
// @ts-ignore: decorator
@inline
function addLanes(sums: usize, d: usize, integers: v128): void {
  const product = f32x4.mul(v128.load32_splat(d), f32x4.convert_i32x4_s(integers));
  v128.store(sums, f32x4.add(v128.load(sums), product));
}

/**
 * Four of the eight lanes of two rows and one block: `w` are the rows' codes, 128 bytes apart, `y` the activations, `scales` the
 * first row's scales. The sums of the rows are 32 bytes apart.
 */
// @ts-ignore: decorator
@inline
function multiplyHalf(w: usize, y: usize, scales: usize, d: usize, sums: usize): void {
  let q0 = v128.load(y);
  let q1 = v128.load(y, 16);
  let q2 = v128.load(y, 32);
  let q3 = v128.load(y, 48);
  let a = i32x4.dot_i16x8_s(nibbles(v128.load(w), q0, q1, q2, q3), v128.load32_splat(scales));
  let b = i32x4.dot_i16x8_s(nibbles(v128.load(w, 128), q0, q1, q2, q3), v128.load32_splat(scales + 16));
  barrier(a, b);
  q0 = v128.load(y, 128);
  q1 = v128.load(y, 144);
  q2 = v128.load(y, 160);
  q3 = v128.load(y, 176);
  a = i32x4.add(a, i32x4.dot_i16x8_s(nibbles(v128.load(w, 32), q0, q1, q2, q3), v128.load32_splat(scales + 4)));
  b = i32x4.add(b, i32x4.dot_i16x8_s(nibbles(v128.load(w, 160), q0, q1, q2, q3), v128.load32_splat(scales + 20)));
  barrier(a, b);
  q0 = v128.load(y, 256);
  q1 = v128.load(y, 272);
  q2 = v128.load(y, 288);
  q3 = v128.load(y, 304);
  a = i32x4.add(a, i32x4.dot_i16x8_s(nibbles(v128.load(w, 64), q0, q1, q2, q3), v128.load32_splat(scales + 8)));
  b = i32x4.add(b, i32x4.dot_i16x8_s(nibbles(v128.load(w, 192), q0, q1, q2, q3), v128.load32_splat(scales + 24)));
  barrier(a, b);
  q0 = v128.load(y, 384);
  q1 = v128.load(y, 400);
  q2 = v128.load(y, 416);
  q3 = v128.load(y, 432);
  a = i32x4.add(a, i32x4.dot_i16x8_s(nibbles(v128.load(w, 96), q0, q1, q2, q3), v128.load32_splat(scales + 12)));
  b = i32x4.add(b, i32x4.dot_i16x8_s(nibbles(v128.load(w, 224), q0, q1, q2, q3), v128.load32_splat(scales + 28)));
  addLanes(sums, d, a);
  addLanes(sums + 32, d + 4, b);
}

/** out[o] = row o · activations, which q8_k_widen_nibbles made. */
export function q4_k_matvec(weights: usize, activations: usize, out: usize, outputs: i32, width: i32): void {
  const blocks = <usize>(width >> 8);
  for (; outputs > 0; outputs -= 4, out += 16) {
    memory.fill(LANE_SUMS, 0, 128);
    let minima = f32x4.splat(0);
    let y = activations;
    for (const end = y + blocks * WIDE_K_BYTES; y < end; y += WIDE_K_BYTES, weights += Q4K_QUAD_BYTES) {
      const dy = v128.load32_splat(y + WIDE_SCALE);
      const header = v128.load(weights);
      v128.store(QUAD_D, f32x4.mul(floatsFromLow(header), dy));
      unpackSixes(weights);
      const integers = minimaOfFour(weights, v128.load(y, WIDE_SUMS));
      minima = f32x4.sub(minima, f32x4.mul(f32x4.mul(floatsFromHigh(header), dy), f32x4.convert_i32x4_s(integers)));
      const w = weights + Q4K_QUAD_CODES;
      multiplyHalf(w, y, QUAD_SCALES, QUAD_D, LANE_SUMS);
      multiplyHalf(w + 16, y + 64, QUAD_SCALES, QUAD_D, LANE_SUMS + 16);
      multiplyHalf(w + 256, y, QUAD_SCALES + 32, QUAD_D + 8, LANE_SUMS + 64);
      multiplyHalf(w + 272, y + 64, QUAD_SCALES + 32, QUAD_D + 8, LANE_SUMS + 80);
    }
    v128.store(QUAD_D, minima);
    for (let r: usize = 0; r < <usize>min<i32>(4, outputs); r++) {
      let sum = load<f32>(QUAD_D + (r << 2));
      for (let lane: usize = 0; lane < 32; lane += 4) sum += load<f32>(LANE_SUMS + (r << 5) + lane);
      store<f32>(out + (r << 2), sum);
    }
  }
}
