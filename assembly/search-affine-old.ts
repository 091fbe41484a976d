// QKX1, candle's affine search without weights (src/quants/search-affine.ts `searchAffineOld`), eight sub-blocks at once.

import { codeLanes } from "./lanes";
import { FIT_MIN, FIT_SCALE, L_A, L_B, X_A, X_B } from "./memory";

// @ts-ignore: decorator
@inline
function searchHalf(x: usize, l: usize, at: usize, n: usize, N: i32): void {
  const zero = f32x4.splat(0);
  let low = v128.load(x);
  let high = low;
  v128.store(l, zero);
  for (let i: usize = 16; i < n << 4; i += 16) {
    const v = v128.load(x + i);
    low = v128.bitselect(v, low, f32x4.lt(v, low));
    high = v128.bitselect(v, high, f32x4.gt(v, high));
    v128.store(l + i, zero);
  }
  const live = f32x4.ne(high, low);
  low = v128.bitselect(zero, low, f32x4.gt(low, zero));
  let iscale = f32x4.div(f32x4.splat(<f32>N), f32x4.sub(high, low));
  let scale = f32x4.div(f32x4.splat(1), iscale);
  let active = live;
  for (let round = 0; round < 5; round++) {
    let sumlx = zero;
    let suml2 = zero; // a sum of small integers: exact in any type
    let changed = zero;
    for (let i: usize = 0; i < n << 4; i += 16) {
      const above = f32x4.sub(v128.load(x + i), low);
      const c = codeLanes(f32x4.mul(iscale, above), 0, N, true);
      const before = v128.load(l + i);
      changed = v128.or(changed, f32x4.ne(c, before));
      v128.store(l + i, v128.bitselect(c, before, active));
      sumlx = f32x4.add(sumlx, f32x4.mul(above, c));
      suml2 = f32x4.add(suml2, f32x4.mul(c, c));
    }
    const nextScale = f32x4.div(sumlx, suml2);
    let sum = zero;
    for (let i: usize = 0; i < n << 4; i += 16) {
      sum = f32x4.add(sum, f32x4.sub(v128.load(x + i), f32x4.mul(nextScale, v128.load(l + i))));
    }
    let nextLow = f32x4.div(sum, f32x4.splat(<f32>n));
    nextLow = v128.bitselect(zero, nextLow, f32x4.gt(nextLow, zero));
    scale = v128.bitselect(nextScale, scale, active);
    low = v128.bitselect(nextLow, low, active);
    iscale = f32x4.div(f32x4.splat(1), scale);
    active = v128.and(active, changed);
    if (!v128.any_true(active)) break;
  }
  v128.store(at, v128.and(scale, live), FIT_SCALE);
  v128.store(at, v128.and(f32x4.neg(low), live), FIT_MIN);
}

/** Searches the eight sub-blocks in X; scale and negated minimum go to the FIT arrays at offset `at`. Codes are not kept. */
// @ts-ignore: decorator
@inline
export function searchAffineOld(at: usize, n: usize, N: i32): void {
  searchHalf(X_A, L_A, at, n, N);
  searchHalf(X_B, L_B, at + 16, n, N);
}
