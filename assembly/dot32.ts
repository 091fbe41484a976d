// Integer matrix products of the types with blocks of 32 and of Q8_K with itself, in ggml's order: one exact integer per
// block, one float step per block, blocks in order.

import { fifthBytes } from "./block32";
import { floatsFromHalves, loadHalf } from "./f16";
import { CHUNK_CODES, CHUNK_D, CHUNK_M } from "./memory";

/** Blocks of a weight row that are unpacked together; what comes before is kept as a partial sum in `out`. */
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
function unpackBlock(block: usize, at: usize, type: i32): void {
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

/** Four partial sums of one block's 32 products. */
// @ts-ignore: decorator
@inline
function partials(codes: usize, q: usize): v128 {
  return i32x4.add(
    i32x4.add(
      i32x4.dot_i16x8_s(v128.load8x8_s(codes), v128.load8x8_s(q)),
      i32x4.dot_i16x8_s(v128.load8x8_s(codes, 8), v128.load8x8_s(q, 8)),
    ),
    i32x4.add(
      i32x4.dot_i16x8_s(v128.load8x8_s(codes, 16), v128.load8x8_s(q, 16)),
      i32x4.dot_i16x8_s(v128.load8x8_s(codes, 24), v128.load8x8_s(q, 24)),
    ),
  );
}

/** Lane k: the total of the k-th vector. */
// @ts-ignore: decorator
@inline
function totals(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7));
  const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7));
  return i32x4.add(v128.shuffle<i64>(ab, cd, 0, 2), v128.shuffle<i64>(ab, cd, 1, 3));
}

/** The float steps of four blocks. */
// @ts-ignore: decorator
@inline
function steps(integers: v128, dx: v128, dy: v128, mx: v128, sy: v128, type: i32): v128 {
  const sum = f32x4.convert_i32x4_s(integers);
  if (type == Q4_0 || type == Q8_1) return f32x4.mul(f32x4.mul(sum, dx), dy);
  const product = f32x4.mul(f32x4.mul(dx, dy), sum);
  return type == Q4_1 || type == Q5_1 ? f32x4.add(product, f32x4.mul(mx, sy)) : product;
}

/** Four halves `stride` bytes apart. */
// @ts-ignore: decorator
@inline
function gatherHalves(at: usize, stride: usize): v128 {
  return floatsFromHalves(
    i32x4(
      load<u16>(at),
      load<u16>(at + stride),
      load<u16>(at + stride * 2),
      load<u16>(at + stride * 3),
    ),
  );
}

/** Continues `sum` over the unpacked blocks; `y` is the activation block of the first. */
// @ts-ignore: decorator
@inline
function dotChunk(sum: f32, y: usize, blocks: i32, type: i32): f32 {
  const pairs = type == Q4_1 || type == Q5_1 || type == Q8_1;
  const size: usize = pairs ? 36 : 34;
  const qs: usize = pairs ? 4 : 2;
  let at: usize = 0;
  for (; <i32>at + 4 <= blocks; at += 4, y += size * 4) {
    const c = CHUNK_CODES + (at << 5);
    const integers = totals(
      partials(c, y + qs),
      partials(c + 32, y + size + qs),
      partials(c + 64, y + size * 2 + qs),
      partials(c + 96, y + size * 3 + qs),
    );
    const dy = gatherHalves(y, size);
    const sy = type == Q4_1 || type == Q5_1 ? gatherHalves(y + 2, size) : dy;
    const terms = steps(integers, v128.load(CHUNK_D + (at << 2)), dy, v128.load(CHUNK_M + (at << 2)), sy, type);
    sum += f32x4.extract_lane(terms, 0);
    sum += f32x4.extract_lane(terms, 1);
    sum += f32x4.extract_lane(terms, 2);
    sum += f32x4.extract_lane(terms, 3);
  }
  for (; <i32>at < blocks; at++, y += size) {
    const p = partials(CHUNK_CODES + (at << 5), y + qs);
    const dy = f32x4.splat(loadHalf(y));
    const sy = f32x4.splat(pairs ? loadHalf(y + 2) : 0);
    const dx = v128.load32_splat(CHUNK_D + (at << 2));
    const mx = v128.load32_splat(CHUNK_M + (at << 2));
    sum += f32x4.extract_lane(steps(totals(p, p, p, p), dx, dy, mx, sy, type), 0);
  }
  return sum;
}

/** out[r·outStride + o] = weight row o · activation row r. */
// @ts-ignore: decorator
@inline
export function matmul32(
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
  const size: usize = type == Q4_1 || type == Q5_1 || type == Q8_1 ? 36 : 34;
  const stride = <usize>blocks * size;
  for (let o = 0; o < outputs; o++, out += 4) {
    for (let first = 0; first < blocks; first += CHUNK) {
      const count = min<i32>(CHUNK, blocks - first);
      for (let b = 0; b < count; b++, weights += blockBytes) unpackBlock(weights, <usize>b, type);
      let y = activations + <usize>first * size;
      let result = out;
      for (let r = 0; r < rows; r++, y += stride, result += <usize>outStride << 2) {
        store<f32>(result, dotChunk(first == 0 ? 0 : load<f32>(result), y, count, type));
      }
    }
    if (blocks == 0) for (let r = 0; r < rows; r++) store<f32>(out + (<usize>(r * outStride) << 2), 0);
  }
}

/** Q8_K with itself: ((Σ q·q · dx) · dy) per block of 256. */
export function matmulQ8K(weights: usize, activations: usize, out: usize, outputs: i32, rows: i32, width: i32, outStride: i32): void {
  const rowBytes = <usize>(width >> 8) * 292;
  for (let o = 0; o < outputs; o++, weights += rowBytes) {
    for (let r = 0; r < rows; r++) {
      let sum: f32 = 0;
      let y = activations + <usize>r * rowBytes;
      for (let x = weights; x < weights + rowBytes; x += 292, y += 292) {
        let p = i32x4.splat(0);
        for (let i: usize = 4; i < 260; i += 32) p = i32x4.add(p, partials(x + i, y + i));
        const integer = i32x4.extract_lane(totals(p, p, p, p), 0);
        sum += <f32>integer * load<f32>(x) * load<f32>(y);
      }
      store<f32>(out + (<usize>(r * outStride + o) << 2), sum);
    }
  }
}
