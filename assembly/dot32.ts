// Integer products of the types with blocks of 32 with one row of activations, and of Q8_K with itself, in ggml's order: one
// exact integer per block, one float step per block, blocks in order. Q8_0 has q8_0_quads.ts; many rows have tile32.ts.

import { fifthBytes } from "./block32";
import { loadHalf } from "./f16";
import { CHUNK_CODES, CHUNK_D, CHUNK_M } from "./memory";
import { totals } from "./quads";
import { WIDE_FOUR_BYTES, WIDE_K_BYTES, WIDE_S, WIDE_SCALE, WIDE_SCALES } from "./wide";

/** Blocks of a weight row that are unpacked together. */
const CHUNK: i32 = 64;

/** The types, in the order of the table. */
export const Q4_0 = 0;
export const Q4_1 = 1;
export const Q5_0 = 2;
export const Q5_1 = 3;
export const Q8_0 = 4;
export const Q8_1 = 5;

/** Codes of one block as signed bytes, its scale and minimum. */
// @ts-ignore: decorator
@inline
export function unpackBlock(block: usize, at: usize, type: i32): void {
  const codes = CHUNK_CODES + (at << 5);
  store<f32>(CHUNK_D + (at << 2), loadHalf(block));
  if (type == Q8_0 || type == Q8_1) {
    const qs: usize = type == Q8_0 ? 2 : 4;
    v128.store(codes, v128.load(block + qs));
    v128.store(codes, v128.load(block + qs, 16), 16);
    return;
  }
  const affine = type == Q4_1 || type == Q5_1;
  const five = type == Q5_0 || type == Q5_1;
  if (affine) store<f32>(CHUNK_M + (at << 2), loadHalf(block + 2));
  const qh = block + (affine ? 4 : 2);
  const nibbles = v128.load(five ? qh + 4 : qh);
  let low = v128.and(nibbles, i8x16.splat(15));
  let high = i8x16.shr_u(nibbles, 4);
  if (five) {
    low = v128.or(low, fifthBytes(load<i32>(qh), 0));
    high = v128.or(high, fifthBytes(load<i32>(qh), 1));
  }
  if (!affine) {
    low = i8x16.sub(low, i8x16.splat(five ? 16 : 8));
    high = i8x16.sub(high, i8x16.splat(five ? 16 : 8));
  }
  v128.store(codes, low);
  v128.store(codes, high, 16);
}

/** Four partial sums of one block's 32 products; activation codes are wide. */
// @ts-ignore: decorator
@inline
function partials(codes: usize, q: usize): v128 {
  return i32x4.add(
    i32x4.add(
      i32x4.dot_i16x8_s(v128.load8x8_s(codes), v128.load(q)),
      i32x4.dot_i16x8_s(v128.load8x8_s(codes, 8), v128.load(q, 16)),
    ),
    i32x4.add(
      i32x4.dot_i16x8_s(v128.load8x8_s(codes, 16), v128.load(q, 32)),
      i32x4.dot_i16x8_s(v128.load8x8_s(codes, 24), v128.load(q, 48)),
    ),
  );
}

/** The float steps of four blocks. */
// @ts-ignore: decorator
@inline
export function steps(integers: v128, dx: v128, dy: v128, mx: v128, sy: v128, type: i32): v128 {
  const sum = f32x4.convert_i32x4_s(integers);
  if (type == Q4_0 || type == Q8_1) return f32x4.mul(f32x4.mul(sum, dx), dy);
  const product = f32x4.mul(f32x4.mul(dx, dy), sum);
  return type == Q4_1 || type == Q5_1 ? f32x4.add(product, f32x4.mul(mx, sy)) : product;
}

/** The products of four blocks, `stride` bytes apart, with wide activations at `y`: one float each. */
// @ts-ignore: decorator
@inline
function termsOfFour(codes: usize, stride: usize, d: v128, m: v128, y: usize, type: i32): v128 {
  const integers = totals(
    partials(codes, y),
    partials(codes + stride, y + 64),
    partials(codes + 2 * stride, y + 128),
    partials(codes + 3 * stride, y + 192),
  );
  return steps(integers, d, v128.load(y, WIDE_SCALES), m, v128.load(y, WIDE_S), type);
}

/** Adds the first `count` floats one by one. */
// @ts-ignore: decorator
@inline
function addTerms(sum: f32, terms: v128, count: i32): f32 {
  sum += f32x4.extract_lane(terms, 0);
  if (count > 1) sum += f32x4.extract_lane(terms, 1);
  if (count > 2) sum += f32x4.extract_lane(terms, 2);
  if (count > 3) sum += f32x4.extract_lane(terms, 3);
  return sum;
}

/** Continues `sum` over the unpacked blocks; `y` is the activation of the first four. */
// @ts-ignore: decorator
@inline
function dotChunk(sum: f32, y: usize, blocks: i32, type: i32): f32 {
  for (let at = 0; at < blocks; at += 4, y += WIDE_FOUR_BYTES) {
    const d = v128.load(CHUNK_D + (<usize>at << 2));
    const m = v128.load(CHUNK_M + (<usize>at << 2));
    const terms = termsOfFour(CHUNK_CODES + (<usize>at << 5), 32, d, m, y, type);
    sum = addTerms(sum, terms, blocks - at);
  }
  return sum;
}

/** out[o] = weight row o · the activation row, which q8_0_widen or q8_1_widen made. */
// @ts-ignore: decorator
@inline
export function matvec32(weights: usize, activations: usize, out: usize, outputs: i32, width: i32, type: i32, blockBytes: usize): void {
  const blocks = width >> 5;
  for (; outputs > 0; outputs--, out += 4) {
    let sum: f32 = 0;
    for (let first = 0; first < blocks; first += CHUNK) {
      const count = min<i32>(CHUNK, blocks - first);
      for (let b = 0; b < count; b++, weights += blockBytes) unpackBlock(weights, <usize>b, type);
      sum = dotChunk(sum, activations + <usize>(first >> 2) * WIDE_FOUR_BYTES, count, type);
    }
    store<f32>(out, sum);
  }
}

/** Q8_K with itself: ((Σ q·q · dx) · dy) per block of 256. */
export function matmulQ8K(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  const blocks = <usize>(width >> 8);
  const rowBytes = blocks * 292;
  for (let o = 0; o < outputs; o++, weights += rowBytes) {
    for (let r = 0; r < rows; r++) {
      let sum: f32 = 0;
      let y = activations + <usize>r * blocks * WIDE_K_BYTES;
      for (let x = weights; x < weights + rowBytes; x += 292, y += WIDE_K_BYTES) {
        let p = i32x4.splat(0);
        for (let i: usize = 0; i < 256; i += 32) p = i32x4.add(p, partials(x + 4 + i, y + (i << 1)));
        const integer = i32x4.extract_lane(totals(p, p, p, p), 0);
        sum += <f32>integer * load<f32>(x) * load<f32>(y, WIDE_SCALE);
      }
      store<f32>(out + (<usize>(r * outStride + o) << 2), sum);
    }
  }
}
