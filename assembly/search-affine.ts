// QKX, the affine search (src/quants/search-affine.ts `searchAffine`), for eight sub-blocks at once: one per lane, in two
// halves A and B. Every sum belongs to one sub-block and stays in its lane, in index order, so the bits are those of the
// scalar code. What a scalar `if` decides is a lane mask here.

import { nearestClamped, codeLanes } from "./lanes";
import {
  FIT_ISCALE,
  FIT_LOW,
  FIT_MIN,
  FIT_SCALE,
  FIT_SUMW,
  L_A,
  L_B,
  STATE_A,
  STATE_B,
  W_A,
  W_B,
  X_A,
  X_B,
} from "./memory";

// One half's state: a vector each.
const LOW: usize = 0;
const HIGH: usize = 16;
const SUMW: usize = 32;
const SUMX: usize = 48;
const BEST: usize = 64;
const SCALE: usize = 80;
const FITTED_ISCALE: usize = 96;
const FITTED_LOW: usize = 112;
const FIRST_LOW: usize = 128;
const SUML: usize = 144;
const SUML2: usize = 160;
const SUMXL: usize = 176;
const TRIAL_SCALE: usize = 192;
const TRIAL_LOW: usize = 208;
const VALID: usize = 224;
const ISCALE: usize = 240;
const LIVE: usize = 256;

/** Range and weight sums of a half. */
// @ts-ignore: decorator
@inline
function scan(x: usize, w: usize, n: usize, state: usize): void {
  let low = v128.load(x);
  let high = low;
  let sumw = v128.load(w);
  let sumx = f32x4.mul(sumw, low);
  for (let i: usize = 16; i < n << 4; i += 16) {
    const v = v128.load(x + i);
    const weight = v128.load(w + i);
    low = v128.bitselect(v, low, f32x4.lt(v, low));
    high = v128.bitselect(v, high, f32x4.gt(v, high));
    sumw = f32x4.add(sumw, weight);
    sumx = f32x4.add(sumx, f32x4.mul(weight, v));
  }
  const zero = f32x4.splat(0);
  v128.store(state, low, FIRST_LOW);
  low = v128.bitselect(zero, low, f32x4.gt(low, zero));
  v128.store(state, low, LOW);
  // A flat sub-block's result is fixed (see `first`); some harmless range keeps its lane from leaving the fast path.
  const flat = f32x4.add(f32x4.abs(low), f32x4.splat(1));
  v128.store(state, v128.bitselect(high, flat, f32x4.gt(high, low)), HIGH);
  v128.store(state, f32x4.gt(high, low), LIVE);
  v128.store(state, sumw, SUMW);
  v128.store(state, sumx, SUMX);
}

/**
 * The codes of iscale·(x - low) as floats into `l`. In range the nearest integer is a sum and two integer limits; the
 * exact rule for all values costs a third more and is taken where a lane could leave the range.
 */
// @ts-ignore: decorator
@inline
function code(x: usize, iscale: v128, low: v128, N: i32, away: bool, exact: bool): v128 {
  const v = f32x4.mul(iscale, f32x4.sub(v128.load(x), low));
  return exact || away ? codeLanes(v, 0, N, away) : nearestClamped(v, 0, N);
}

/** Codes and Σ w·l, Σ w·l·l, Σ w·l·x of a half. */
// @ts-ignore: decorator
@inline
function sums(x: usize, w: usize, l: usize, n: usize, state: usize, N: i32, away: bool, exact: bool): void {
  const iscale = v128.load(state, ISCALE);
  const low = v128.load(state, LOW);
  let suml = f32x4.splat(0);
  let suml2 = f32x4.splat(0);
  let sumxl = f32x4.splat(0);
  for (let i: usize = 0; i < n << 4; i += 16) {
    const c = code(x + i, iscale, low, N, away, exact);
    v128.store(l + i, c);
    const weight = v128.load(w + i);
    const wl = f32x4.mul(weight, c);
    suml = f32x4.add(suml, wl);
    suml2 = f32x4.add(suml2, away ? f32x4.mul(weight, f32x4.mul(c, c)) : f32x4.mul(wl, c));
    sumxl = f32x4.add(sumxl, f32x4.mul(wl, v128.load(x + i)));
  }
  v128.store(state, suml, SUML);
  v128.store(state, suml2, SUML2);
  v128.store(state, sumxl, SUMXL);
}

/** True where |iscale·(x - low)| might reach 2^22 for some x of the half: rounding is monotonic, so the ends decide. */
// @ts-ignore: decorator
@inline
function leavesRange(state: usize): bool {
  const low = v128.load(state, LOW);
  const up = f32x4.abs(f32x4.sub(v128.load(state, HIGH), low));
  const down = f32x4.abs(f32x4.sub(v128.load(state, FIRST_LOW), low));
  const most = f32x4.mul(f32x4.abs(v128.load(state, ISCALE)), f32x4.pmax(up, down));
  return !i32x4.all_true(f32x4.lt(most, f32x4.splat(4194303)));
}

/** Least squares for the sums of a half. */
// @ts-ignore: decorator
@inline
function solve(state: usize): void {
  const zero = f32x4.splat(0);
  const sumw = v128.load(state, SUMW);
  const sumx = v128.load(state, SUMX);
  const suml = v128.load(state, SUML);
  const suml2 = v128.load(state, SUML2);
  const sumxl = v128.load(state, SUMXL);
  const determinant = f32x4.sub(f32x4.mul(sumw, suml2), f32x4.mul(suml, suml));
  const scale = f32x4.div(f32x4.sub(f32x4.mul(sumw, sumxl), f32x4.mul(sumx, suml)), determinant);
  const low = f32x4.div(f32x4.sub(f32x4.mul(suml2, sumx), f32x4.mul(suml, sumxl)), determinant);
  const positive = f32x4.gt(low, zero);
  v128.store(state, v128.bitselect(f32x4.div(sumxl, suml2), scale, positive), TRIAL_SCALE);
  v128.store(state, v128.andnot(low, positive), TRIAL_LOW);
  v128.store(state, f32x4.gt(determinant, zero), VALID);
}

/** w·err of one element. */
// @ts-ignore: decorator
@inline
function weighted(x: usize, w: usize, l: usize, scale: v128, low: v128, absolute: bool): v128 {
  const diff = f32x4.sub(f32x4.add(f32x4.mul(scale, v128.load(l)), low), v128.load(x));
  return f32x4.mul(v128.load(w), absolute ? f32x4.abs(diff) : f32x4.mul(diff, diff));
}

/** Keeps the trial where it is valid and better. */
// @ts-ignore: decorator
@inline
function accept(state: usize, error: v128): void {
  const best = v128.load(state, BEST);
  const better = v128.and(v128.load(state, VALID), f32x4.lt(error, best));
  if (!v128.any_true(better)) return;
  const low = v128.load(state, LOW);
  v128.store(state, v128.bitselect(error, best, better), BEST);
  v128.store(state, v128.bitselect(v128.load(state, TRIAL_SCALE), v128.load(state, SCALE), better), SCALE);
  v128.store(state, v128.bitselect(v128.load(state, ISCALE), v128.load(state, FITTED_ISCALE), better), FITTED_ISCALE);
  v128.store(state, v128.bitselect(low, v128.load(state, FITTED_LOW), better), FITTED_LOW);
  v128.store(state, v128.bitselect(v128.load(state, TRIAL_LOW), low, better), LOW);
}

/** iscale of a candidate: `numerator` / (high - low), with the low in use. */
// @ts-ignore: decorator
@inline
function setCandidate(state: usize, numerator: f32): void {
  const range = f32x4.sub(v128.load(state, HIGH), v128.load(state, LOW));
  v128.store(state, f32x4.div(f32x4.splat(numerator), range), ISCALE);
}

/** The first candidate: N / (high - low) with scale 1 / iscale and the low in use. */
// @ts-ignore: decorator
@inline
function begin(state: usize): void {
  const iscale = v128.load(state, ISCALE);
  const low = v128.load(state, LOW);
  v128.store(state, f32x4.div(f32x4.splat(1), iscale), TRIAL_SCALE);
  v128.store(state, low, TRIAL_LOW);
}

/** Writes a half's fit: scale and -low, and what its codes are made from. Flat sub-blocks get scale 0 and codes 0. */
// @ts-ignore: decorator
@inline
function finish(state: usize, at: usize): void {
  v128.store(at, v128.load(state, SCALE), FIT_SCALE);
  v128.store(at, f32x4.neg(v128.load(state, LOW)), FIT_MIN);
  v128.store(at, v128.load(state, FITTED_ISCALE), FIT_ISCALE);
  v128.store(at, v128.load(state, FITTED_LOW), FIT_LOW);
  v128.store(at, v128.load(state, SUMW), FIT_SUMW);
}

/**
 * Searches the eight sub-blocks of `n` elements in X and W and stores their fits at offset `at` of the FIT arrays (32 bytes,
 * lane order). Candidates 0..nstep are (rmin + rdelta·step + N) / (high - low).
 */
// @ts-ignore: decorator
@inline
export function searchAffine(
  at: usize,
  n: usize,
  N: i32,
  rmin: f32,
  rdelta: f32,
  nstep: i32,
  absolute: bool,
  away: bool,
): void {
  scan(X_A, W_A, n, STATE_A);
  scan(X_B, W_B, n, STATE_B);
  for (let step = -1; step <= nstep; step++) {
    const numerator: f32 = step < 0 ? <f32>N : rmin + rdelta * <f32>step + <f32>N;
    setCandidate(STATE_A, numerator);
    setCandidate(STATE_B, numerator);
    if (!away && (leavesRange(STATE_A) || leavesRange(STATE_B))) {
      sums(X_A, W_A, L_A, n, STATE_A, N, away, true);
      sums(X_B, W_B, L_B, n, STATE_B, N, away, true);
    } else {
      sums(X_A, W_A, L_A, n, STATE_A, N, away, false);
      sums(X_B, W_B, L_B, n, STATE_B, N, away, false);
    }
    if (step < 0) {
      begin(STATE_A);
      begin(STATE_B);
    } else {
      solve(STATE_A);
      solve(STATE_B);
    }
    const scaleA = v128.load(STATE_A, TRIAL_SCALE);
    const scaleB = v128.load(STATE_B, TRIAL_SCALE);
    const lowA = v128.load(STATE_A, TRIAL_LOW);
    const lowB = v128.load(STATE_B, TRIAL_LOW);
    let errorA = f32x4.splat(0);
    let errorB = f32x4.splat(0);
    for (let i: usize = 0; i < n << 4; i += 16) {
      errorA = f32x4.add(errorA, weighted(X_A + i, W_A + i, L_A + i, scaleA, lowA, absolute));
      errorB = f32x4.add(errorB, weighted(X_B + i, W_B + i, L_B + i, scaleB, lowB, absolute));
    }
    if (step < 0) {
      first(STATE_A, errorA);
      first(STATE_B, errorB);
    } else {
      accept(STATE_A, errorA);
      accept(STATE_B, errorB);
    }
  }
  finish(STATE_A, at);
  finish(STATE_B, at + 16);
}

/** Takes the first candidate unconditionally; in flat lanes a best error that nothing beats. */
// @ts-ignore: decorator
@inline
function first(state: usize, error: v128): void {
  const live = v128.load(state, LIVE);
  v128.store(state, v128.bitselect(error, f32x4.splat(-Infinity), live), BEST);
  v128.store(state, v128.and(v128.load(state, TRIAL_SCALE), live), SCALE);
  v128.store(state, v128.and(v128.load(state, ISCALE), live), FITTED_ISCALE);
  v128.store(state, v128.load(state, LOW), FITTED_LOW);
}
