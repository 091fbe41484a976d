// Integer products of K types with one row of Q8_K activations, in ggml's order (program.ts, spec section 6): element i of
// a block goes to integer lane i mod 8, a vector of eight 16-bit products is exactly those lanes, and their exact sums
// may be made in any order; the floats then keep eight lane sums over all blocks. Q4_K has q4_k_quads.ts; many rows have
// tile-k.ts.

import { LANE_SUMS, UNPACKED, UNPACKED_D, UNPACKED_DMIN, UNPACKED_MINS, UNPACKED_SCALES } from "./memory";
import { unpackQ2K, unpackQ3K, unpackQ5K, unpackQ6K } from "./unpack";
import { WIDE_K_BYTES, WIDE_SCALE, WIDE_SUMS } from "./wide";

/** Behind the eight lanes: the sum of minima. */
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

/** Puts the integer lanes of one block into a row's float sums. `type`: 2, 3, 5, 6 for Q2_K…. */
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
  if (type == 5) {
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
  if (type == 5) {
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

// @ts-ignore: decorator
@inline
function unpack(block: usize, type: i32): void {
  if (type == 2) unpackQ2K(block);
  else if (type == 3) unpackQ3K(block);
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

/** out[o] = weight row o · the activation row, which q8_k_widen made. */
// @ts-ignore: decorator
@inline
export function matvecK(weights: usize, activations: usize, out: usize, outputs: i32, width: i32, type: i32, blockBytes: usize): void {
  const end = activations + <usize>(width >> 8) * WIDE_K_BYTES;
  for (; outputs > 0; outputs--, out += 4) {
    memory.fill(LANE_SUMS, 0, MINIMA + 4);
    for (let y = activations; y < end; y += WIDE_K_BYTES, weights += blockBytes) {
      unpack(weights, type);
      dotBlock(y, LANE_SUMS, type);
    }
    store<f32>(out, sumOfRow(LANE_SUMS, type));
  }
}
