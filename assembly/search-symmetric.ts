// The symmetric searches of src/quants/search-symmetric.ts for eight sub-blocks at once, one per lane, in two halves:
// QX (ggml), old QX (candle) and Q3S (both). Weights are in W, their products with x in WX.

import { codeLanes, nearestClamped, nearestInts } from "./lanes";
import { FIT_ISCALE, FIT_LOW, FIT_SCALE, FIT_SUMW, STATE_A, STATE_B, W_A, W_B, WX_A, WX_B, X_A, X_B } from "./memory";

const PEAK: usize = 0;
const LIVE: usize = 16;
const SUMLX: usize = 32;
const SUML2: usize = 48;
const SCALE: usize = 64;
const BEST: usize = 80;
const FITTED: usize = 96;
const FINITE: usize = 112;

/** Stores w·x for both halves. */
// @ts-ignore: decorator
@inline
function weigh(n: usize): void {
  for (let i: usize = 0; i < n << 4; i += 16) {
    v128.store(WX_A + i, f32x4.mul(v128.load(W_A + i), v128.load(X_A + i)));
    v128.store(WX_B + i, f32x4.mul(v128.load(W_B + i), v128.load(X_B + i)));
  }
}

/** Stores x·x as weights: the searches without importance. */
// @ts-ignore: decorator
@inline
export function squareWeights(n: usize): void {
  for (let i: usize = 0; i < n << 4; i += 16) {
    v128.store(W_A + i, f32x4.mul(v128.load(X_A + i), v128.load(X_A + i)));
    v128.store(W_B + i, f32x4.mul(v128.load(X_B + i), v128.load(X_B + i)));
  }
}

/** The element of largest magnitude in each lane, the first of several, and whether the lane counts as non-zero. */
// @ts-ignore: decorator
@inline
function peaks(x: usize, n: usize, state: usize, zeroOnly: bool): void {
  let magnitude = f32x4.splat(0);
  let peak = f32x4.splat(0);
  let most = i32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const v = v128.load(x + i);
    const a = f32x4.abs(v);
    peak = v128.bitselect(v, peak, f32x4.gt(a, magnitude));
    magnitude = f32x4.pmax(magnitude, a);
    most = i32x4.max_s(most, a);
  }
  const live = zeroOnly ? f32x4.gt(magnitude, f32x4.splat(0)) : f32x4.ge(magnitude, f32x4.splat(<f32>1e-15));
  // A lane without a search gets some harmless peak: its result is fixed.
  v128.store(state, v128.bitselect(peak, f32x4.splat(1), live), PEAK);
  v128.store(state, live, LIVE);
  v128.store(state, i32x4.lt_s(most, i32x4.splat(0x7f800000)), FINITE);
}

/** Σ (w·x)·l and Σ (w·l)·l of a half's codes under iscale. Finite x never leave nearest's range: |iscale·x| < N + 2. */
// @ts-ignore: decorator
@inline
function sums(x: usize, w: usize, wx: usize, n: usize, iscale: v128, N: i32, state: usize): void {
  let sumlx = f32x4.splat(0);
  let suml2 = f32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const l = nearestClamped(f32x4.mul(iscale, v128.load(x + i)), -N, N - 1);
    sumlx = f32x4.add(sumlx, f32x4.mul(v128.load(wx + i), l));
    suml2 = f32x4.add(suml2, f32x4.mul(f32x4.mul(v128.load(w + i), l), l));
  }
  v128.store(state, sumlx, SUMLX);
  v128.store(state, suml2, SUML2);
}

/** The same for x with infinities or NaN: scales of scales under extreme importance. */
function exactSums(x: usize, w: usize, wx: usize, n: usize, numerator: f32, N: i32, state: usize): void {
  const iscale = f32x4.div(f32x4.splat(numerator), v128.load(state, PEAK));
  const least = i32x4.splat(-N);
  const most = i32x4.splat(N - 1);
  let sumlx = f32x4.splat(0);
  let suml2 = f32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const integer = nearestInts(f32x4.mul(iscale, v128.load(x + i)));
    const l = f32x4.convert_i32x4_s(i32x4.min_s(i32x4.max_s(integer, least), most));
    sumlx = f32x4.add(sumlx, f32x4.mul(v128.load(wx + i), l));
    suml2 = f32x4.add(suml2, f32x4.mul(f32x4.mul(v128.load(w + i), l), l));
  }
  v128.store(state, sumlx, SUMLX);
  v128.store(state, suml2, SUML2);
}

// @ts-ignore: decorator
@inline
function keepFirst(state: usize, iscale: v128): void {
  const sumlx = v128.load(state, SUMLX);
  const suml2 = v128.load(state, SUML2);
  const scale = v128.and(f32x4.div(sumlx, suml2), f32x4.ne(suml2, f32x4.splat(0)));
  v128.store(state, scale, SCALE);
  v128.store(state, f32x4.mul(scale, sumlx), BEST);
  v128.store(state, iscale, FITTED);
}

// @ts-ignore: decorator
@inline
function keepBetter(state: usize, iscale: v128): void {
  const sumlx = v128.load(state, SUMLX);
  const suml2 = v128.load(state, SUML2);
  const best = v128.load(state, BEST);
  const better = v128.and(
    f32x4.gt(suml2, f32x4.splat(0)),
    f32x4.gt(f32x4.mul(sumlx, sumlx), f32x4.mul(best, suml2)),
  );
  if (!v128.any_true(better)) return;
  const scale = f32x4.div(sumlx, suml2);
  v128.store(state, v128.bitselect(scale, v128.load(state, SCALE), better), SCALE);
  v128.store(state, v128.bitselect(f32x4.mul(scale, sumlx), best, better), BEST);
  v128.store(state, v128.bitselect(iscale, v128.load(state, FITTED), better), FITTED);
}

/** Scale, iscale of the codes kept, and (as the mask FIT_LOW) whether the codes are made from it or are all 0. */
// @ts-ignore: decorator
@inline
function finish(state: usize, at: usize): void {
  const live = v128.load(state, LIVE);
  v128.store(at, v128.and(v128.load(state, SCALE), live), FIT_SCALE);
  v128.store(at, v128.and(v128.load(state, FITTED), live), FIT_ISCALE);
  v128.store(at, live, FIT_LOW);
}

/** QX: 19 scales around peak / -N. The candidates do not depend on each other; the halves hide each other's latency. */
// @ts-ignore: decorator
@inline
export function searchSymmetric(at: usize, n: usize, N: i32): void {
  weigh(n);
  peaks(X_A, n, STATE_A, false);
  peaks(X_B, n, STATE_B, false);
  const peakA = v128.load(STATE_A, PEAK);
  const peakB = v128.load(STATE_B, PEAK);
  const finite = i32x4.all_true(v128.and(v128.load(STATE_A, FINITE), v128.load(STATE_B, FINITE)));
  for (let round = 0; round < 19; round++) {
    const step = round == 0 ? 0 : round < 10 ? round - 10 : round - 9;
    const numerator = -(<f32>N + <f32>0.1 * <f32>step);
    const iscaleA = f32x4.div(f32x4.splat(numerator), peakA);
    const iscaleB = f32x4.div(f32x4.splat(numerator), peakB);
    if (finite) {
      sums(X_A, W_A, WX_A, n, iscaleA, N, STATE_A);
      sums(X_B, W_B, WX_B, n, iscaleB, N, STATE_B);
    } else {
      exactSums(X_A, W_A, WX_A, n, numerator, N, STATE_A);
      exactSums(X_B, W_B, WX_B, n, numerator, N, STATE_B);
    }
    if (round == 0) {
      keepFirst(STATE_A, iscaleA);
      keepFirst(STATE_B, iscaleB);
    } else {
      keepBetter(STATE_A, iscaleA);
      keepBetter(STATE_B, iscaleB);
    }
  }
  finish(STATE_A, at);
  finish(STATE_B, at + 16);
}

/** Σ w of the eight sub-blocks, for the search of the scale of scales. */
// @ts-ignore: decorator
@inline
export function sumWeights(at: usize, n: usize): void {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    a = f32x4.add(a, v128.load(W_A + i));
    b = f32x4.add(b, v128.load(W_B + i));
  }
  v128.store(at, a, FIT_SUMW);
  v128.store(at + 16, b, FIT_SUMW);
}

/** First codes into L and their sums, under iscale = -N / peak. `whole`: weight times squared code, candle's Q3S. */
// @ts-ignore: decorator
@inline
function firstCodes(x: usize, w: usize, wx: usize, l: usize, n: usize, N: i32, state: usize, away: bool, whole: bool): void {
  const iscale = f32x4.div(f32x4.splat(<f32>-N), v128.load(state, PEAK));
  let sumlx = f32x4.splat(0);
  let suml2 = f32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const c = codeLanes(f32x4.mul(iscale, v128.load(x + i)), -N, N - 1, away);
    v128.store(l + i, c);
    sumlx = f32x4.add(sumlx, f32x4.mul(v128.load(wx + i), c));
    suml2 = f32x4.add(suml2, squareTerm(v128.load(w + i), c, whole));
  }
  v128.store(state, sumlx, SUMLX);
  v128.store(state, suml2, SUML2);
}

// @ts-ignore: decorator
@inline
function squareTerm(w: v128, l: v128, whole: bool): v128 {
  return whole ? f32x4.mul(w, f32x4.mul(l, l)) : f32x4.mul(f32x4.mul(w, l), l);
}

/** Tries the best code of element `i` given the others, in every active lane; returns the lanes that took it. */
// @ts-ignore: decorator
@inline
function descendAt(x: usize, w: usize, wx: usize, l: usize, N: i32, state: usize, active: v128, away: bool, whole: bool): v128 {
  const zero = f32x4.splat(0);
  const sumlx = v128.load(state, SUMLX);
  const suml2 = v128.load(state, SUML2);
  const weight = v128.load(w);
  const product = v128.load(wx);
  const code = v128.load(l);
  let slx = f32x4.sub(sumlx, f32x4.mul(product, code));
  let sl2 = f32x4.sub(suml2, squareTerm(weight, code, whole));
  let take = v128.and(active, f32x4.gt(slx, zero));
  const next = codeLanes(f32x4.div(f32x4.mul(v128.load(x), sl2), slx), -N, N - 1, away);
  take = v128.and(take, f32x4.ne(next, code));
  slx = f32x4.add(slx, f32x4.mul(product, next));
  sl2 = f32x4.add(sl2, squareTerm(weight, next, whole));
  take = v128.and(take, f32x4.gt(sl2, zero));
  const gain = f32x4.gt(
    f32x4.mul(f32x4.mul(slx, slx), suml2),
    f32x4.mul(f32x4.mul(sumlx, sumlx), sl2),
  );
  take = v128.and(take, gain);
  v128.store(l, v128.bitselect(next, code, take));
  v128.store(state, v128.bitselect(slx, sumlx, take), SUMLX);
  v128.store(state, v128.bitselect(sl2, suml2, take), SUML2);
  return take;
}

/** Coordinate descent, up to five sweeps; a lane whose sweep took nothing rests. */
// @ts-ignore: decorator
@inline
function descend(l: usize, n: usize, N: i32, away: bool, whole: bool): void {
  let activeA = v128.load(STATE_A, LIVE);
  let activeB = v128.load(STATE_B, LIVE);
  for (let sweep = 0; sweep < 5; sweep++) {
    let takenA = i32x4.splat(0);
    let takenB = i32x4.splat(0);
    for (let i: usize = 0; i < n << 4; i += 16) {
      takenA = v128.or(takenA, descendAt(X_A + i, W_A + i, WX_A + i, l + i, N, STATE_A, activeA, away, whole));
      takenB = v128.or(takenB, descendAt(X_B + i, W_B + i, WX_B + i, l + 512 + i, N, STATE_B, activeB, away, whole));
    }
    activeA = takenA;
    activeB = takenB;
    if (!v128.any_true(v128.or(activeA, activeB))) break;
  }
}

/** Codes L + N of a half as floats, 0 in lanes without a search. */
// @ts-ignore: decorator
@inline
function finishCodes(l: usize, n: usize, N: i32, state: usize): void {
  const live = v128.load(state, LIVE);
  const offset = f32x4.splat(<f32>N);
  for (let i: usize = 0; i < n << 4; i += 16) v128.store(l + i, v128.and(f32x4.add(v128.load(l + i), offset), live));
}

/** Q3S with weights x·x. Scales go to FIT_SCALE, codes 0..7 as floats to L. */
// @ts-ignore: decorator
@inline
export function searchThreeBit(at: usize, l: usize, candle: bool): void {
  squareWeights(16);
  weigh(16);
  peaks(X_A, 16, STATE_A, candle);
  peaks(X_B, 16, STATE_B, candle);
  firstCodes(X_A, W_A, WX_A, l, 16, 4, STATE_A, candle, candle);
  firstCodes(X_B, W_B, WX_B, l + 512, 16, 4, STATE_B, candle, candle);
  descend(l, 16, 4, candle, candle);
  finishCodes(l, 16, 4, STATE_A);
  finishCodes(l + 512, 16, 4, STATE_B);
  threeBitScale(STATE_A, at, candle);
  threeBitScale(STATE_B, at + 16, candle);
}

/** candle divides without looking. */
// @ts-ignore: decorator
@inline
function threeBitScale(state: usize, at: usize, candle: bool): void {
  const suml2 = v128.load(state, SUML2);
  const scale = f32x4.div(v128.load(state, SUMLX), suml2);
  const live = v128.load(state, LIVE);
  const defined = candle ? live : v128.and(live, f32x4.gt(suml2, f32x4.splat(0)));
  v128.store(at, v128.and(scale, defined), FIT_SCALE);
}

/** One re-scaling round of old QX in the lanes `active`; returns the lanes that took it. */
// @ts-ignore: decorator
@inline
function rescale(x: usize, w: usize, wx: usize, l: usize, n: usize, N: i32, state: usize, active: v128): v128 {
  const iscale = f32x4.div(f32x4.splat(1), v128.load(state, SCALE));
  let sumlx = f32x4.splat(0);
  let suml2 = f32x4.splat(0);
  let changed = i32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const c = codeLanes(f32x4.mul(iscale, v128.load(x + i)), -N, N - 1, true);
    changed = v128.or(changed, f32x4.ne(c, v128.load(l + i)));
    sumlx = f32x4.add(sumlx, f32x4.mul(v128.load(wx + i), c));
    suml2 = f32x4.add(suml2, f32x4.mul(f32x4.mul(v128.load(w + i), c), c));
  }
  const zero = f32x4.splat(0);
  const best = v128.load(state, BEST);
  const worse = f32x4.le(f32x4.mul(sumlx, sumlx), f32x4.mul(best, suml2));
  let take = v128.and(active, changed);
  take = v128.and(take, v128.not(v128.or(f32x4.eq(suml2, zero), worse)));
  const scale = f32x4.div(sumlx, suml2);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const c = codeLanes(f32x4.mul(iscale, v128.load(x + i)), -N, N - 1, true);
    v128.store(l + i, v128.bitselect(c, v128.load(l + i), take));
  }
  v128.store(state, v128.bitselect(sumlx, v128.load(state, SUMLX), take), SUMLX);
  v128.store(state, v128.bitselect(suml2, v128.load(state, SUML2), take), SUML2);
  v128.store(state, v128.bitselect(scale, v128.load(state, SCALE), take), SCALE);
  v128.store(state, v128.bitselect(f32x4.mul(scale, sumlx), best, take), BEST);
  return take;
}

/** Old QX (candle): scales to FIT_SCALE, codes 0..2N-1 as floats to L. Divisions are unguarded. */
// @ts-ignore: decorator
@inline
export function searchSymmetricOld(at: usize, l: usize, n: usize, N: i32): void {
  weigh(n);
  peaks(X_A, n, STATE_A, true);
  peaks(X_B, n, STATE_B, true);
  firstCodes(X_A, W_A, WX_A, l, n, N, STATE_A, true, false);
  firstCodes(X_B, W_B, WX_B, l + 512, n, N, STATE_B, true, false);
  firstScale(STATE_A);
  firstScale(STATE_B);
  let activeA = v128.load(STATE_A, LIVE);
  let activeB = v128.load(STATE_B, LIVE);
  for (let round = 0; round < 3; round++) {
    activeA = rescale(X_A, W_A, WX_A, l, n, N, STATE_A, activeA);
    activeB = rescale(X_B, W_B, WX_B, l + 512, n, N, STATE_B, activeB);
    if (!v128.any_true(v128.or(activeA, activeB))) break;
  }
  descend(l, n, N, true, false);
  finishCodes(l, n, N, STATE_A);
  finishCodes(l + 512, n, N, STATE_B);
  threeBitScale(STATE_A, at, true);
  threeBitScale(STATE_B, at + 16, true);
}

// @ts-ignore: decorator
@inline
function firstScale(state: usize): void {
  const sumlx = v128.load(state, SUMLX);
  const scale = f32x4.div(sumlx, v128.load(state, SUML2));
  v128.store(state, scale, SCALE);
  v128.store(state, f32x4.mul(scale, sumlx), BEST);
}
