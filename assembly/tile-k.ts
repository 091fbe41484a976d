// Products of K types with many rows of activations: tiles of four rows of weights and four of activations.
//
// The weights of a tile become 16-bit integers, code times scale, once for all activations. Two such numbers of one of ggml's
// eight lanes lie side by side, so that i32x4.dot_i16x8_s adds them up in that lane; two rows of weights and four of
// activations, four lanes at a time, keep eight sums in registers. Then come the float steps of the block, as in dot-k.ts.
//
// Lost (Q4_K, 64 rows of 1024, one core of an AMD EPYC): codes and scales multiplied apart, four rows of activations and one of
// weights, 0.4 of the speed: it loaded 1.2 vectors per multiplication, not 0.75, and V8 spilled half of the sums.

import { addAcross } from "./lanes";
import {
  LANE_SUMS,
  QUAD_D,
  QUAD_DMIN,
  QUAD_MINS,
  QUAD_SCALES,
  TILE_CODES,
  UNPACKED,
  UNPACKED_D,
  UNPACKED_DMIN,
  UNPACKED_MINS,
  UNPACKED_SCALES,
} from "./memory";
import { Q4K_QUAD_BYTES, Q4K_QUAD_CODES, unpackMins, unpackSixes } from "./q4_k_quads";
import { floatsFromHigh, floatsFromLow, totals } from "./quads";
import { unpackQ2K, unpackQ3K, unpackQ5K, unpackQ6K } from "./unpack";
import { FOUR_K_BYTES, FOUR_K_HALF, FOUR_K_SCALES, FOUR_K_SUMS16, FOUR_K_SUMS32 } from "./wide";

/** Activation rows whose sums are under way together: few enough that these stay in the first cache. */
const MOST_ROWS: i32 = 32;
/** Sums of a tile: eight lanes of each of sixteen pairs of rows, and per row of weights four minima. */
const TILE_MINIMA: usize = 512;
const TILE_BYTES: usize = 576;

/** Bytes of a block. */
function blockBytesOf(type: i32): usize {
  if (type == 2) return 84;
  if (type == 3) return 110;
  if (type == 4) return 144;
  return type == 5 ? 176 : 210;
}

// @ts-ignore: decorator
@inline
function storePair(a: v128, b: v128, to: usize): void {
  v128.store(to, v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
  v128.store(to, v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15), 512);
}

/** Where a row's products of code and scale go. */
// @ts-ignore: decorator
@inline
function codesOf(row: usize): usize {
  return TILE_CODES + ((row >> 1) << 10) + ((row & 1) << 4);
}

/** One block of one row of a type that is stored row by row. */
function expandBlock(block: usize, row: usize, type: i32): void {
  if (type == 2) unpackQ2K(block);
  else if (type == 3) unpackQ3K(block);
  else if (type == 5) unpackQ5K(block);
  else unpackQ6K(block);
  // Scales are of 16 or, in Q5_K, of 32 codes.
  const shift: usize = type == 5 ? 1 : 0;
  const codes = codesOf(row);
  for (let u: usize = 0; u < 16; u++) {
    const from = UNPACKED + ((u >> 2) << 6) + ((u & 3) << 3);
    const scale = ((u >> 2) << 2) + ((u & 3) >> 1);
    const a = i16x8.mul(v128.load8x8_s(from), v128.load16_splat(UNPACKED_SCALES + ((scale >> shift) << 1)));
    const b = i16x8.mul(v128.load8x8_s(from, 32), v128.load16_splat(UNPACKED_SCALES + (((scale + 2) >> shift) << 1)));
    storePair(a, b, codes + (u << 5));
  }
  store<f32>(QUAD_D + (row << 2), load<f32>(UNPACKED_D));
  store<f32>(QUAD_DMIN + (row << 2), load<f32>(UNPACKED_DMIN));
  v128.store(QUAD_MINS + (row << 5), v128.load(UNPACKED_MINS));
  v128.store(QUAD_MINS + (row << 5), v128.load(UNPACKED_MINS, 16), 16);
}

/** One block of a four of Q4_K; see q4_k_quads.ts. */
function expandQuad(quad: usize): void {
  const mask = i16x8.splat(15);
  const header = v128.load(quad);
  v128.store(QUAD_D, floatsFromLow(header));
  v128.store(QUAD_DMIN, floatsFromHigh(header));
  unpackSixes(quad);
  for (let r: usize = 0; r < 4; r++) {
    v128.store(QUAD_MINS + (r << 5), unpackMins(quad, r));
    let codes = codesOf(r);
    for (let g: usize = 0; g < 4; g++, codes += 128) {
      const scales = v128.load32_splat(QUAD_SCALES + (r << 4) + (g << 2));
      let low = v128.load(quad + Q4K_QUAD_CODES + (r << 7) + (g << 5));
      let high = v128.load(quad + Q4K_QUAD_CODES + (r << 7) + (g << 5), 16);
      for (let j: usize = 0; j < 128; j += 32) {
        v128.store(codes + j, i16x8.mul(v128.and(low, mask), scales));
        v128.store(codes + j, i16x8.mul(v128.and(high, mask), scales), 512);
        low = i16x8.shr_u(low, 4);
        high = i16x8.shr_u(high, 4);
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function addLanes(sums: usize, d: v128, integers: v128): void {
  v128.store(sums, f32x4.add(v128.load(sums), f32x4.mul(d, f32x4.convert_i32x4_s(integers))));
}

/** Adds the products of `steps` steps of two rows of weights and four of activations: into the float sums, or (Q2_K) as they are. */
// @ts-ignore: decorator
@inline
function multiplySteps(codes: usize, y: usize, steps: i32, scales: usize, row: usize, sums: usize, type: i32): void {
  let a0 = i32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  for (const end = codes + (<usize>steps << 5); codes < end; codes += 32, y += 64) {
    const a = v128.load(codes);
    const b = v128.load(codes, 16);
    const y0 = v128.load(y);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(a, y0));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(b, y0));
    const y1 = v128.load(y, 16);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(a, y1));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(b, y1));
    const y2 = v128.load(y, 32);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(a, y2));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(b, y2));
    const y3 = v128.load(y, 48);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(a, y3));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(b, y3));
  }
  const dy = v128.load(scales);
  const da = f32x4.mul(v128.load32_splat(QUAD_D + (row << 2)), dy);
  const db = f32x4.mul(v128.load32_splat(QUAD_D + (row << 2) + 4), dy);
  if (type == 2) {
    v128.store(sums, f32x4.mul(da, f32x4.convert_i32x4_s(totals(a0, a1, a2, a3))));
    v128.store(sums, f32x4.mul(db, f32x4.convert_i32x4_s(totals(b0, b1, b2, b3))), 16);
    return;
  }
  addLanes(sums, v128.shuffle<i32>(da, da, 0, 0, 0, 0), a0);
  addLanes(sums + 32, v128.shuffle<i32>(da, da, 1, 1, 1, 1), a1);
  addLanes(sums + 64, v128.shuffle<i32>(da, da, 2, 2, 2, 2), a2);
  addLanes(sums + 96, v128.shuffle<i32>(da, da, 3, 3, 3, 3), a3);
  addLanes(sums + 128, v128.shuffle<i32>(db, db, 0, 0, 0, 0), b0);
  addLanes(sums + 160, v128.shuffle<i32>(db, db, 1, 1, 1, 1), b1);
  addLanes(sums + 192, v128.shuffle<i32>(db, db, 2, 2, 2, 2), b2);
  addLanes(sums + 224, v128.shuffle<i32>(db, db, 3, 3, 3, 3), b3);
}

/** (dmin·dy)·Σ of sums of 32 codes times minima, of one row of weights and four of activations. */
// @ts-ignore: decorator
@inline
function minimaOf(y: usize, row: usize): v128 {
  const mins = v128.load(QUAD_MINS + (row << 5));
  const integers = totals(
    i32x4.dot_i16x8_s(v128.load(y, FOUR_K_SUMS32), mins),
    i32x4.dot_i16x8_s(v128.load(y, FOUR_K_SUMS32 + 16), mins),
    i32x4.dot_i16x8_s(v128.load(y, FOUR_K_SUMS32 + 32), mins),
    i32x4.dot_i16x8_s(v128.load(y, FOUR_K_SUMS32 + 48), mins),
  );
  return scaledMinima(y, row, integers);
}

// @ts-ignore: decorator
@inline
function scaledMinima(y: usize, row: usize, integers: v128): v128 {
  const dmin = f32x4.mul(v128.load32_splat(QUAD_DMIN + (row << 2)), v128.load(y, FOUR_K_SCALES));
  return f32x4.mul(dmin, f32x4.convert_i32x4_s(integers));
}

/** The same of Q2_K, whose minima are of 16 codes. */
function minimaOfSixteens(y: usize, row: usize): v128 {
  const m0 = v128.load(QUAD_MINS + (row << 5));
  const m1 = v128.load(QUAD_MINS + (row << 5), 16);
  const s = y + FOUR_K_SUMS16;
  const integers = totals(
    i32x4.add(i32x4.dot_i16x8_s(v128.load(s), m0), i32x4.dot_i16x8_s(v128.load(s, 16), m1)),
    i32x4.add(i32x4.dot_i16x8_s(v128.load(s, 32), m0), i32x4.dot_i16x8_s(v128.load(s, 48), m1)),
    i32x4.add(i32x4.dot_i16x8_s(v128.load(s, 64), m0), i32x4.dot_i16x8_s(v128.load(s, 80), m1)),
    i32x4.add(i32x4.dot_i16x8_s(v128.load(s, 96), m0), i32x4.dot_i16x8_s(v128.load(s, 112), m1)),
  );
  return scaledMinima(y, row, integers);
}

/** One block of four rows of activations. */
function multiplyBlock(y: usize, sums: usize, type: i32): void {
  const scales = y + FOUR_K_SCALES;
  if (type == 2) {
    for (let row: usize = 0; row < 4; row += 2) {
      multiplySteps(TILE_CODES + (row << 9), y, 32, scales, row, sums, 2);
      for (let r: usize = 0; r < 2; r++) {
        const sum = sums + TILE_MINIMA + ((row + r) << 4);
        const products = v128.load(sums + (r << 4));
        v128.store(sum, f32x4.add(v128.load(sum), f32x4.sub(products, minimaOfSixteens(y, row + r))));
      }
    }
    return;
  }
  for (let row: usize = 0; row < 4; row += 2) {
    const codes = TILE_CODES + (row << 9);
    const to = sums + (row << 7);
    multiplySteps(codes, y, 16, scales, row, to, 3);
    multiplySteps(codes + 512, y + FOUR_K_HALF, 16, scales, row, to + 16, 3);
  }
  if (type != 4 && type != 5) return;
  for (let row: usize = 0; row < 4; row++) {
    const sum = sums + TILE_MINIMA + (row << 4);
    v128.store(sum, f32x4.sub(v128.load(sum), minimaOf(y, row)));
  }
}

/** minima + S_0, + S_1 … + S_7, of one row of weights and four of activations. */
function sumOfLanes(sums: usize, minima: v128): v128 {
  for (let half: usize = 0; half < 32; half += 16, sums += 16) {
    minima = addAcross(minima, v128.load(sums), v128.load(sums, 32), v128.load(sums, 64), v128.load(sums, 96));
  }
  return minima;
}

/** Writes the results of `outputs` rows of weights and four of activations. */
function storeTile(sums: usize, out: usize, outputs: i32, outStride: i32, type: i32): void {
  const stride = <usize>outStride << 2;
  for (let o: usize = 0; o < <usize>outputs; o++, out += 4) {
    const minima = v128.load(sums + (o << 4), TILE_MINIMA);
    const sum = type == 2 ? minima : sumOfLanes(sums + (o << 7), minima);
    v128.store_lane<i32>(out, sum, 0);
    v128.store_lane<i32>(out + stride, sum, 1);
    v128.store_lane<i32>(out + 2 * stride, sum, 2);
    v128.store_lane<i32>(out + 3 * stride, sum, 3);
  }
}

/** out[r·outStride + o] = weight row o · activation row r. Activations are a multiple of four rows, from q8_k_widen_four. */
export function matmulTilesK(
  weights: usize,
  activations: usize,
  out: usize,
  outputs: i32,
  rows: i32,
  width: i32,
  outStride: i32,
  type: i32,
): void {
  const blocks = <usize>(width >> 8);
  const blockBytes = blockBytesOf(type);
  const rowBytes = blocks * blockBytes;
  const tileBytes = blocks * FOUR_K_BYTES;
  for (let first = 0; first < rows; first += MOST_ROWS) {
    const tiles = <usize>(min<i32>(MOST_ROWS, rows - first) >> 2);
    for (let o = 0; o < outputs; o += 4) {
      memory.fill(LANE_SUMS, 0, tiles * TILE_BYTES);
      const row = weights + <usize>o * rowBytes;
      for (let b: usize = 0; b < blocks; b++) {
        if (type == 4) expandQuad(row + b * Q4K_QUAD_BYTES);
        else {
          for (let r: usize = 0; r < 4; r++) {
            const there = min<usize>(r, <usize>(outputs - 1 - o)); // a row that is not there is another one's double
            expandBlock(row + there * rowBytes + b * blockBytes, r, type);
          }
        }
        const y = activations + b * FOUR_K_BYTES;
        for (let t: usize = 0; t < tiles; t++) multiplyBlock(y + t * tileBytes, LANE_SUMS + t * TILE_BYTES, type);
      }
      for (let t: usize = 0; t < tiles; t++) {
        const to = out + (<usize>((first + <i32>(t << 2)) * outStride + o) << 2);
        storeTile(LANE_SUMS + t * TILE_BYTES, to, min<i32>(4, outputs - o), outStride, type);
      }
    }
    activations += tiles * tileBytes;
  }
}
