// Importance weights, importance_i · sqrt(sigma2 + x_i·x_i), and the sums of squares they look at.

import { WEIGHTS } from "./memory";

/** Σ x·x of `count` floats in index order: a chain of additions that no lanes may split. */
export function sumOfSquares(x: usize, count: i32): f32 {
  let sum: f32 = 0;
  for (const end = x + (<usize>count << 2); x < end; x += 16) {
    const v = v128.load(x);
    const s = f32x4.mul(v, v);
    sum += f32x4.extract_lane(s, 0);
    sum += f32x4.extract_lane(s, 1);
    sum += f32x4.extract_lane(s, 2);
    sum += f32x4.extract_lane(s, 3);
  }
  return sum;
}

/** Four of them at once, of four runs of 256 floats `stride` bytes apart: the chains hide each other. */
export function sumsOfSquares256(x: usize, stride: usize): v128 {
  let a: f32 = 0;
  let b: f32 = 0;
  let c: f32 = 0;
  let d: f32 = 0;
  for (let i: usize = 0; i < 1024; i += 4) {
    const p = x + i;
    const va = load<f32>(p);
    const vb = load<f32>(p + stride);
    const vc = load<f32>(p + stride * 2);
    const vd = load<f32>(p + stride * 3);
    a += va * va;
    b += vb * vb;
    c += vc * vc;
    d += vd * vd;
  }
  return f32x4(a, b, c, d);
}

/** Writes `count` weights to WEIGHTS. */
export function writeWeights(x: usize, importance: usize, sigma2: f32, count: i32): void {
  const sigma = f32x4.splat(sigma2);
  for (let i: usize = 0; i < <usize>count << 2; i += 16) {
    const v = v128.load(x + i);
    const root = f32x4.sqrt(f32x4.add(sigma, f32x4.mul(v, v)));
    v128.store(WEIGHTS + i, f32x4.mul(v128.load(importance + i), root));
  }
}
