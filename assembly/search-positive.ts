// QP, the scale-of-scales search of the importance variants (src/quants/search-affine.ts `searchPositive`), for four
// super-blocks at once, one per lane. It is short beside the searches of the sub-blocks, so every rounding is the exact
// one: the values may be negative for unusual weights, and then ggml's conversion to a byte wraps.

import { nearestInts, roundAway, storeTransposed } from "./lanes";
import { QUAD_L, QUAD_W, QUAD_X } from "./memory";

/** Nearest integer in a search; candle keeps the low byte. */
// @ts-ignore: decorator
@inline
function toByte(v: v128, candle: bool): v128 {
  if (!candle) return nearestInts(v);
  return v128.and(i32x4.trunc_sat_f32x4_s(roundAway(v)), i32x4.splat(255));
}

/** The same in the final pass, where candle saturates. */
// @ts-ignore: decorator
@inline
function toFinalByte(v: v128, candle: bool): v128 {
  if (!candle) return nearestInts(v);
  const r = i32x4.trunc_sat_f32x4_s(roundAway(v));
  return i32x4.min_s(i32x4.max_s(r, i32x4.splat(0)), i32x4.splat(255));
}

// @ts-ignore: decorator
@inline
function squareTerm(w: v128, l: v128, candle: bool): v128 {
  return candle ? f32x4.mul(w, f32x4.mul(l, l)) : f32x4.mul(f32x4.mul(w, l), l);
}

/** Copies `n` floats of each of four rows, 64 bytes apart, to vectors. */
// @ts-ignore: decorator
@inline
function gather(rows: usize, n: usize, out: usize): void {
  for (let i: usize = 0; i < n << 2; i += 16) {
    const p = rows + i;
    storeTransposed(v128.load(p), v128.load(p, 64), v128.load(p, 128), v128.load(p, 192), out + (i << 2));
  }
}

/** Σ (w·e)·e, e = x - scale·l, for the codes min(N, byte(iscale·x)), or for the unlimited ones of the first pass. */
// @ts-ignore: decorator
@inline
function errorOf(n: usize, iscale: v128, N: i32, limited: bool, candle: bool): v128 {
  const scale = f32x4.div(f32x4.splat(1), iscale);
  let error = f32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const x = v128.load(QUAD_X + i);
    const byte = toByte(f32x4.mul(iscale, x), candle);
    const l = limited ? i32x4.min_s(byte, i32x4.splat(N)) : v128.and(byte, i32x4.splat(255));
    const diff = f32x4.sub(x, f32x4.mul(scale, f32x4.convert_i32x4_s(l)));
    error = f32x4.add(error, f32x4.mul(f32x4.mul(v128.load(QUAD_W + i), diff), diff));
  }
  return error;
}

/**
 * Values and weights: four rows of `n` floats, 64 bytes apart. Codes 0..N go to `codes`, a byte each, rows 16 bytes apart;
 * the four scales to `out`.
 */
// @ts-ignore: decorator
@inline
export function searchPositive(values: usize, weights: usize, n: usize, N: i32, codes: usize, out: usize, candle: bool): void {
  gather(values, n, QUAD_X);
  gather(weights, n, QUAD_W);
  let high = f32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) high = f32x4.pmax(high, v128.load(QUAD_X + i));
  const live = candle ? f32x4.ne(high, f32x4.splat(0)) : f32x4.ge(high, f32x4.splat(<f32>1e-15));
  high = v128.bitselect(high, f32x4.splat(1), live);
  let iscale = f32x4.div(f32x4.splat(<f32>N), high);
  let best = errorOf(n, iscale, N, false, candle);
  for (let step = -4; step <= 4; step++) {
    if (step == 0) continue;
    const trial = f32x4.div(f32x4.splat(<f32>0.1 * <f32>step + <f32>N), high);
    const error = errorOf(n, trial, N, true, candle);
    const better = f32x4.lt(error, best);
    best = v128.bitselect(error, best, better);
    iscale = v128.bitselect(trial, iscale, better);
  }
  let sumlx = f32x4.splat(0);
  let suml2 = f32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const x = v128.load(QUAD_X + i);
    const w = v128.load(QUAD_W + i);
    const integer = i32x4.min_s(toFinalByte(f32x4.mul(iscale, x), candle), i32x4.splat(N));
    v128.store(QUAD_L + i, v128.and(integer, i32x4.splat(255)));
    const l = f32x4.convert_i32x4_s(integer);
    sumlx = f32x4.add(sumlx, f32x4.mul(f32x4.mul(w, x), l));
    suml2 = f32x4.add(suml2, squareTerm(w, l, candle));
  }
  let active = live;
  for (let sweep = 0; sweep < 5; sweep++) {
    let taken = i32x4.splat(0);
    for (let i: usize = 0; i < n << 4; i += 16) {
      const x = v128.load(QUAD_X + i);
      const w = v128.load(QUAD_W + i);
      const stored = v128.load(QUAD_L + i);
      const l = f32x4.convert_i32x4_s(stored);
      const product = f32x4.mul(w, x);
      let slx = f32x4.sub(sumlx, f32x4.mul(product, l));
      let sl2 = f32x4.sub(suml2, squareTerm(w, l, candle));
      let take = v128.and(active, v128.and(f32x4.gt(slx, f32x4.splat(0)), f32x4.gt(sl2, f32x4.splat(0))));
      const next = i32x4.min_s(toByte(f32x4.div(f32x4.mul(x, sl2), slx), candle), i32x4.splat(N));
      take = v128.and(take, i32x4.ne(next, stored));
      const nextCode = f32x4.convert_i32x4_s(next);
      slx = f32x4.add(slx, f32x4.mul(product, nextCode));
      sl2 = f32x4.add(sl2, squareTerm(w, nextCode, candle));
      take = v128.and(
        take,
        f32x4.gt(f32x4.mul(f32x4.mul(slx, slx), suml2), f32x4.mul(f32x4.mul(sumlx, sumlx), sl2)),
      );
      v128.store(QUAD_L + i, v128.bitselect(v128.and(next, i32x4.splat(255)), stored, take));
      sumlx = v128.bitselect(slx, sumlx, take);
      suml2 = v128.bitselect(sl2, suml2, take);
      taken = v128.or(taken, take);
    }
    active = taken;
    if (!v128.any_true(active)) break;
  }
  let scale = v128.and(f32x4.div(sumlx, suml2), live);
  if (!candle) scale = v128.and(scale, f32x4.gt(suml2, f32x4.splat(0)));
  v128.store(out, scale);
  for (let i: usize = 0; i < n; i++) {
    const l = v128.and(v128.load(QUAD_L + (i << 4)), live);
    store<u8>(codes + i, i32x4.extract_lane(l, 0));
    store<u8>(codes + i, i32x4.extract_lane(l, 1), 16);
    store<u8>(codes + i, i32x4.extract_lane(l, 2), 32);
    store<u8>(codes + i, i32x4.extract_lane(l, 3), 48);
  }
}
