// Importance weights, importance_i · sqrt(sigma2 + x_i·x_i), and the sums of squares they look at.

import { SIGMAS } from "./memory";

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

/**
 * The sums of four super-blocks at `x`, to four floats; their chains hide each other's latency. `valid` of them exist, the
 * last stands in for the others. Returns the address of the sums.
 */
export function sumsOfSquares256(x: usize, valid: i32): usize {
  const x1 = x + <usize>min<i32>(1, valid - 1) * 1024;
  const x2 = x + <usize>min<i32>(2, valid - 1) * 1024;
  const x3 = x + <usize>min<i32>(3, valid - 1) * 1024;
  let a: f32 = 0;
  let b: f32 = 0;
  let c: f32 = 0;
  let d: f32 = 0;
  for (let i: usize = 0; i < 1024; i += 4) {
    const va = load<f32>(x + i);
    const vb = load<f32>(x1 + i);
    const vc = load<f32>(x2 + i);
    const vd = load<f32>(x3 + i);
    a += va * va;
    b += vb * vb;
    c += vc * vc;
    d += vd * vd;
  }
  v128.store(SIGMAS, f32x4(a, b, c, d));
  return SIGMAS;
}
