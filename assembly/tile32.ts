// Products of the types with blocks of 32 with many rows of activations: tiles of eight rows of weights and four of
// activations. A lane is a row of weights, so that nothing is added across lanes; weights become 16-bit integers once for all
// activations. Eight blocks are taken at a time.

import { Q8_0, steps, unpackBlock } from "./dot32";
import { CHUNK_CODES, CHUNK_D, CHUNK_M, LANE_SUMS, TILE_CODES, TILE_D, TILE_M } from "./memory";
import { Q8_0_QUAD_BYTES, Q8_0_QUAD_SCALES } from "./q8_0_quads";
import { floatsFromLow } from "./quads";
import { FOUR_BYTES, FOUR_S, FOUR_SCALES } from "./wide";

const MOST_ROWS: i32 = 32;
const MOST_BLOCKS: i32 = 8;
/** Eight rows of weights and four of activations. */
const TILE_BYTES: usize = 128;

/** Four codes of each of four rows as 16-bit integers: even ones at `to`, odd ones behind the other four rows. */
// @ts-ignore: decorator
@inline
function splitBytes(codes: v128, to: usize): void {
  v128.store(to, i16x8.shr_s(i16x8.shl(codes, 8), 8));
  v128.store(to, i16x8.shr_s(codes, 8), 32);
}

/** One block of four rows, `half` 0 or 1 of the eight, of a four of Q8_0 (q8_0_quads.ts). */
// @ts-ignore: decorator
@inline
function expandQuad(quad: usize, at: usize, half: usize): void {
  const codes = TILE_CODES + (at << 9) + (half << 4);
  for (let t: usize = 0; t < 8; t++) {
    v128.store(codes + (t << 6), v128.load8x8_s(quad + (t << 4)));
    v128.store(codes + (t << 6), v128.load8x8_s(quad + (t << 4), 8), 32);
  }
  v128.store(TILE_D + (at << 5) + (half << 4), floatsFromLow(v128.load64_zero(quad, Q8_0_QUAD_SCALES)));
}

/** The same of four rows that are stored one by one, `rowBytes` apart, of which `present` are there. */
// @ts-ignore: decorator
@inline
function expandRows(block: usize, rowBytes: usize, present: i32, at: usize, half: usize, type: i32): void {
  for (let r = 0; r < 4; r++) {
    unpackBlock(block + <usize>min<i32>(r, present - 1) * rowBytes, <usize>r, type); // a missing row is another one's double
  }
  const codes = TILE_CODES + (at << 9) + (half << 4);
  for (let t: usize = 0; t < 32; t += 4) {
    const c = CHUNK_CODES + t;
    splitBytes(i32x4(load<i32>(c), load<i32>(c, 32), load<i32>(c, 64), load<i32>(c, 96)), codes + (t << 4));
  }
  v128.store(TILE_D + (at << 5) + (half << 4), v128.load(CHUNK_D));
  v128.store(TILE_M + (at << 5) + (half << 4), v128.load(CHUNK_M));
}

/** The float step of one row of activations, lane `a` of its scales. */
// @ts-ignore: decorator
@inline
function finishRow(integers: v128, w: usize, y: usize, sums: usize, type: i32): void {
  const dy = v128.load32_splat(y + FOUR_SCALES);
  const sy = v128.load32_splat(y + FOUR_S);
  const step = steps(integers, v128.load(TILE_D + w), dy, v128.load(TILE_M + w), sy, type);
  v128.store(sums, f32x4.add(v128.load(sums), step));
}

/** One block of eight rows of weights, the `at`-th of those unpacked, and four of activations. */
// @ts-ignore: decorator
@inline
function multiplyBlock(at: usize, y: usize, sums: usize, type: i32): void {
  let a0 = i32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  let q = y;
  let w = TILE_CODES + (at << 9);
  for (const end = w + 512; w < end; w += 32, q += 16) {
    const a = v128.load(w);
    const b = v128.load(w, 16);
    const y0 = v128.load32_splat(q);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(a, y0));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(b, y0));
    const y1 = v128.load32_splat(q, 4);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(a, y1));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(b, y1));
    const y2 = v128.load32_splat(q, 8);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(a, y2));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(b, y2));
    const y3 = v128.load32_splat(q, 12);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(a, y3));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(b, y3));
  }
  const d = at << 5;
  finishRow(a0, d, y, sums, type);
  finishRow(a1, d, y + 4, sums + 16, type);
  finishRow(a2, d, y + 8, sums + 32, type);
  finishRow(a3, d, y + 12, sums + 48, type);
  finishRow(b0, d + 16, y, sums + 64, type);
  finishRow(b1, d + 16, y + 4, sums + 80, type);
  finishRow(b2, d + 16, y + 8, sums + 96, type);
  finishRow(b3, d + 16, y + 12, sums + 112, type);
}

/** Writes the results of `outputs` rows of weights and four of activations. */
function storeTile(sums: usize, out: usize, outputs: i32, outStride: i32): void {
  for (let half = 0; half < 8; half += 4, sums += 64, out += 16) {
    let to = out;
    for (let r: usize = 0; r < 4; r++, to += <usize>outStride << 2) {
      const sum = v128.load(sums + (r << 4));
      if (outputs - half >= 4) v128.store(to, sum);
      else {
        if (outputs - half > 0) v128.store_lane<i32>(to, sum, 0);
        if (outputs - half > 1) v128.store_lane<i32>(to, sum, 1, 4);
        if (outputs - half > 2) v128.store_lane<i32>(to, sum, 2, 8);
      }
    }
  }
}

/**
 * out[r·outStride + o] = weight row o · activation row r. Activations are a multiple of four rows, from q8_0_widen_four or
 * q8_1_widen_four.
 */
// @ts-ignore: decorator
@inline
export function matmulTiles32(
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
  const blocks = width >> 5;
  const rowBytes = <usize>blocks * blockBytes;
  const tileBytes = <usize>blocks * FOUR_BYTES;
  for (let first = 0; first < rows; first += MOST_ROWS) {
    const tiles = <usize>(min<i32>(MOST_ROWS, rows - first) >> 2);
    for (let o = 0; o < outputs; o += 8) {
      memory.fill(LANE_SUMS, 0, tiles * TILE_BYTES);
      const left = outputs - o;
      for (let b = 0; b < blocks; b += MOST_BLOCKS) {
        const count = <usize>min<i32>(MOST_BLOCKS, blocks - b);
        for (let half: usize = 0; half < 2; half++) {
          // A four that is not there is the first one's double.
          const row = weights + <usize>(left > 4 || half == 0 ? o + <i32>(half << 2) : o) * rowBytes;
          for (let at: usize = 0; at < count; at++) {
            if (type == Q8_0) expandQuad(row + (<usize>b + at) * Q8_0_QUAD_BYTES, at, half);
            else {
              const present = left > 4 && half == 1 ? left - 4 : left;
              expandRows(row + (<usize>b + at) * blockBytes, rowBytes, present, at, half, type);
            }
          }
        }
        for (let t: usize = 0; t < tiles; t++) {
          let y = activations + t * tileBytes + <usize>b * FOUR_BYTES;
          const sums = LANE_SUMS + t * TILE_BYTES;
          for (let at: usize = 0; at < count; at++, y += FOUR_BYTES) multiplyBlock(at, y, sums, type);
        }
      }
      for (let t: usize = 0; t < tiles; t++) {
        const to = out + (<usize>((first + <i32>(t << 2)) * outStride + o) << 2);
        storeTile(LANE_SUMS + t * TILE_BYTES, to, left, outStride);
      }
    }
    activations += tiles * tileBytes;
  }
}
