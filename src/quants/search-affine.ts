/** Searches for codes above a minimum, x ≈ scale·code - min, and for non-negative values. Rules and sources: search.ts. */

import { clampInt, f32, roundHalfAway } from "../numerics.js";
import { type Lineage, TENTH } from "./search.js";

/** The candidate grid of an affine search. */
export interface AffineGrid {
  /** Largest code. */
  readonly N: number;
  readonly rmin: number;
  readonly rdelta: number;
  /** Candidates 0..nstep, both included. */
  readonly nstep: number;
  /** Sum |error| instead of squared error. */
  readonly absolute: boolean;
}

export interface AffineFit {
  readonly scale: number;
  /** The negated minimum, ≥ 0. */
  readonly min: number;
}

/** The grid of every importance-aware affine search. */
export function importanceGrid(N: number): AffineGrid {
  return { N, rmin: f32(-0.9), rdelta: f32(0.05), nstep: 36, absolute: false };
}

/**
 * QKX: codes 0..N with x ≈ scale·code - min under weights w. Tries a grid of scales; for each, the codes it gives are
 * fitted by weighted least squares. `low` (the minimum in use) changes when a candidate wins, and later candidates use
 * the new one. Source: `make_qkx2_quants` / `make_qkx3_quants`, which are one function for finite input.
 */
export function searchAffine(
  x: Float32Array,
  w: Float32Array,
  grid: AffineGrid,
  codes: Uint8Array,
  lineage: Lineage,
): AffineFit {
  const { N, rmin, rdelta, nstep } = grid;
  let low = x[0];
  let high = x[0];
  let sumw = w[0];
  let sumx = f32(w[0] * x[0]);
  for (let i = 1; i < x.length; i++) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
    sumw = f32(sumw + w[i]);
    sumx = f32(sumx + f32(w[i] * x[i]));
  }
  if (low > 0) low = 0;
  codes.fill(0);
  if (high <= low) return { scale: 0, min: -low };

  let iscale = f32(N / f32(high - low));
  let scale = f32(1 / iscale);
  for (let i = 0; i < x.length; i++) codes[i] = clampInt(lineage.round(f32(iscale * f32(x[i] - low))), 0, N);
  let best = affineError(x, w, codes, scale, low, grid.absolute);
  const trial = new Uint8Array(x.length);
  for (let step = 0; step <= nstep; step++) {
    iscale = f32(f32(f32(rmin + f32(rdelta * step)) + N) / f32(high - low));
    let suml = 0;
    let suml2 = 0;
    let sumxl = 0;
    for (let i = 0; i < x.length; i++) {
      const l = clampInt(lineage.round(f32(iscale * f32(x[i] - low))), 0, N);
      trial[i] = l;
      const wl = f32(w[i] * l);
      suml = f32(suml + wl);
      suml2 = f32(suml2 + lineage.square(w[i], l));
      sumxl = f32(sumxl + f32(wl * x[i]));
    }
    const determinant = f32(f32(sumw * suml2) - f32(suml * suml));
    if (!(determinant > 0)) continue;
    let trialScale = f32(f32(f32(sumw * sumxl) - f32(sumx * suml)) / determinant);
    let trialLow = f32(f32(f32(suml2 * sumx) - f32(suml * sumxl)) / determinant);
    if (trialLow > 0) {
      trialLow = 0;
      trialScale = f32(sumxl / suml2);
    }
    const error = affineError(x, w, trial, trialScale, trialLow, grid.absolute);
    if (error < best) {
      codes.set(trial);
      best = error;
      scale = trialScale;
      low = trialLow;
    }
  }
  return { scale, min: -low };
}

/** Σ w·|e| or Σ w·(e·e), e = ((scale·code) + low) - x. */
function affineError(
  x: Float32Array,
  w: Float32Array,
  codes: Uint8Array,
  scale: number,
  low: number,
  absolute: boolean,
): number {
  let error = 0;
  for (let i = 0; i < x.length; i++) {
    const diff = f32(f32(f32(scale * codes[i]) + low) - x[i]);
    error = f32(error + f32(w[i] * (absolute ? Math.abs(diff) : f32(diff * diff))));
  }
  return error;
}

/**
 * QKX1, candle: the affine search without weights, five alternations of codes, scale and minimum. Codes are not kept.
 * A constant block gives scale 0 and min 0, losing its value. Source: candle `make_qkx1_quants`.
 */
export function searchAffineOld(x: Float32Array, N: number): AffineFit {
  let low = x[0];
  let high = x[0];
  for (let i = 1; i < x.length; i++) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
  }
  if (high === low) return { scale: 0, min: 0 };
  if (low > 0) low = 0;
  let iscale = f32(N / f32(high - low));
  let scale = f32(1 / iscale);
  const codes = new Uint8Array(x.length);
  for (let iteration = 0; iteration < 5; iteration++) {
    let sumlx = 0;
    let suml2 = 0;
    let changed = false;
    for (let i = 0; i < x.length; i++) {
      const l = clampInt(roundHalfAway(f32(iscale * f32(x[i] - low))), 0, N);
      if (l !== codes[i]) {
        codes[i] = l;
        changed = true;
      }
      sumlx = f32(sumlx + f32(f32(x[i] - low) * l));
      suml2 += l * l;
    }
    scale = f32(sumlx / suml2);
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum = f32(sum + f32(x[i] - f32(scale * codes[i])));
    low = f32(sum / x.length);
    if (low > 0) low = 0;
    iscale = f32(1 / scale);
    if (!changed) break;
  }
  return { scale, min: -low };
}

/**
 * QP: codes 0..N for non-negative x under weights w, the scale of sub-block scales and minima in the importance
 * variants. Returns the scale. Source: `make_qp_quants`.
 */
export function searchPositive(
  x: Float32Array,
  w: Float32Array,
  N: number,
  codes: Uint8Array,
  lineage: Lineage,
): number {
  let high = 0;
  for (let i = 0; i < x.length; i++) {
    if (!(high > x[i])) high = x[i]; // not Math.max, which a NaN would stick to
  }
  codes.fill(0);
  if (lineage.isZero(high)) return 0;
  let iscale = f32(N / high);
  for (let i = 0; i < x.length; i++) codes[i] = lineage.toByte(f32(iscale * x[i]));
  const firstScale = f32(1 / iscale);
  let best = positiveError(x, w, firstScale, (i) => codes[i]);
  for (let step = -4; step <= 4; step++) {
    if (step === 0) continue;
    const trial = f32(f32(f32(TENTH * step) + N) / high);
    const trialScale = f32(1 / trial);
    const error = positiveError(x, w, trialScale, (i) => Math.min(N, lineage.toByte(f32(trial * x[i]))));
    if (error < best) {
      best = error;
      iscale = trial;
    }
  }
  let sumlx = 0;
  let suml2 = 0;
  for (let i = 0; i < x.length; i++) {
    const l = Math.min(N, lineage.toFinalByte(f32(iscale * x[i])));
    codes[i] = l;
    sumlx = f32(sumlx + f32(f32(w[i] * x[i]) * l));
    suml2 = f32(suml2 + lineage.square(w[i], l));
  }
  return descendPositive(x, w, N, codes, { sumlx, suml2 }, lineage);
}

/** Σ (w·e)·e, e = x - scale·code. */
function positiveError(
  x: Float32Array,
  w: Float32Array,
  scale: number,
  codeOf: (i: number) => number,
): number {
  let error = 0;
  for (let i = 0; i < x.length; i++) {
    const diff = f32(x[i] - f32(scale * codeOf(i)));
    error = f32(error + f32(f32(w[i] * diff) * diff));
  }
  return error;
}

function descendPositive(
  x: Float32Array,
  w: Float32Array,
  N: number,
  codes: Uint8Array,
  start: { sumlx: number; suml2: number },
  lineage: Lineage,
): number {
  let { sumlx, suml2 } = start;
  for (let sweep = 0; sweep < 5; sweep++) {
    let accepted = false;
    for (let i = 0; i < x.length; i++) {
      const l = codes[i];
      const wx = f32(w[i] * x[i]);
      let slx = f32(sumlx - f32(wx * l));
      let sl2 = f32(suml2 - lineage.square(w[i], l));
      if (!(slx > 0 && sl2 > 0)) continue;
      const next = Math.min(N, lineage.toByte(f32(f32(x[i] * sl2) / slx)));
      if (next === l) continue;
      slx = f32(slx + f32(wx * next));
      sl2 = f32(sl2 + lineage.square(w[i], next));
      if (f32(f32(slx * slx) * suml2) > f32(f32(sumlx * sumlx) * sl2)) {
        codes[i] = next;
        sumlx = slx;
        suml2 = sl2;
        accepted = true;
      }
    }
    if (!accepted) break;
  }
  return lineage.ratio(sumlx, suml2);
}
