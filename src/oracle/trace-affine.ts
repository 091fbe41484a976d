/**
 * The affine and the positive searches of src/quants/search-affine.ts once more, with the arithmetic as an argument and
 * every candidate reported. A test holds them to the reference.
 */

import { clampInt, f32 } from "../numerics.js";
import { TENTH } from "../quants/search.js";
import type { AffineFit, AffineGrid } from "../quants/search-affine.js";
import { type Arithmetic, isLess, isMore } from "./arithmetic.js";
import type { Candidate } from "./trace.js";
import { addSquare, type Way } from "./trace-way.js";

export function traceAffine(
  way: Way,
  of: string,
  x: Float32Array,
  w: Float32Array,
  grid: AffineGrid,
  codes: Uint8Array,
): AffineFit {
  const { lineage, a } = way;
  const { N, rmin, rdelta, nstep, absolute } = grid;
  let low = x[0];
  let high = x[0];
  let sumw = w[0];
  let sumx = f32(w[0] * x[0]);
  for (let i = 1; i < x.length; i++) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
    sumw = f32(sumw + w[i]);
    sumx = a.mulAdd(w[i], x[i], sumx);
  }
  if (low > 0) low = 0;
  codes.fill(0);
  if (high <= low) return { scale: 0, min: -low };
  let iscale = a.divide(N, f32(high - low));
  let scale = a.divide(1, iscale);
  const codeOf = (i: number) => clampInt(a.roundProduct(lineage.round, iscale, f32(x[i] - low)), 0, N);
  for (let i = 0; i < x.length; i++) codes[i] = codeOf(i);
  let best = affineError(a, x, w, codes, scale, low, absolute);
  const candidates: Candidate[] = [
    { step: "range", scale, min: -low, inverse: iscale, offset: low, value: best },
  ];
  const trial = new Uint8Array(x.length);
  for (let step = 0; step <= nstep; step++) {
    iscale = a.divide(f32(a.mulAdd(rdelta, step, rmin) + N), f32(high - low));
    let [suml, suml2, sumxl] = [0, 0, 0];
    for (let i = 0; i < x.length; i++) {
      const l = codeOf(i);
      trial[i] = l;
      suml = a.mulAdd(w[i], l, suml);
      suml2 = addSquare(way, w[i], l, suml2);
      sumxl = a.mulAdd(f32(w[i] * l), x[i], sumxl);
    }
    const determinant = a.crossDifference(sumw, suml2, suml, suml);
    if (!(determinant > 0)) continue;
    let trialScale = a.divide(a.crossDifference(sumw, sumxl, sumx, suml), determinant);
    let trialLow = a.divide(a.crossDifference(suml2, sumx, suml, sumxl), determinant);
    if (trialLow > 0) {
      trialLow = 0;
      trialScale = a.divide(sumxl, suml2);
    }
    const error = affineError(a, x, w, trial, trialScale, trialLow, absolute);
    candidates.push({
      step: `${step} of ${nstep}`,
      scale: trialScale,
      min: -trialLow,
      inverse: iscale,
      offset: low,
      value: error,
    });
    if (isLess(a, error, best)) {
      codes.set(trial);
      best = error;
      scale = trialScale;
      low = trialLow;
    }
  }
  way.trace?.({ of, wins: "least error", candidates });
  return { scale, min: -low };
}

function affineError(
  a: Arithmetic,
  x: Float32Array,
  w: Float32Array,
  codes: Uint8Array,
  scale: number,
  low: number,
  absolute: boolean,
): number {
  let error = 0;
  for (let i = 0; i < x.length; i++) {
    const diff = f32(a.mulAdd(scale, codes[i], low) - x[i]);
    error = a.mulAdd(w[i], absolute ? Math.abs(diff) : f32(diff * diff), error);
  }
  return error;
}

/** candle's search without weights. */
export function traceAffineOld(way: Way, of: string, x: Float32Array, N: number): AffineFit {
  const { lineage, a } = way;
  let low = x[0];
  let high = x[0];
  for (const v of x) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (high === low) return { scale: 0, min: 0 };
  if (low > 0) low = 0;
  let iscale = a.divide(N, f32(high - low));
  let scale = a.divide(1, iscale);
  const codes = new Uint8Array(x.length);
  const candidates: Candidate[] = [];
  for (let iteration = 0; iteration < 5; iteration++) {
    let [sumlx, suml2] = [0, 0];
    let changed = false;
    for (let i = 0; i < x.length; i++) {
      const l = clampInt(a.roundProduct(lineage.round, iscale, f32(x[i] - low)), 0, N);
      if (l !== codes[i]) changed = true;
      codes[i] = l;
      sumlx = a.mulAdd(f32(x[i] - low), l, sumlx);
      suml2 += l * l;
    }
    scale = a.divide(sumlx, suml2);
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum = f32(sum + a.mulAdd(-scale, codes[i], x[i]));
    low = a.divide(sum, x.length);
    if (low > 0) low = 0;
    iscale = a.divide(1, scale);
    const error = affineError(a, x, new Float32Array(x.length).fill(1), codes, scale, low, false);
    candidates.push({ step: `round ${iteration + 1}`, scale, min: -low, value: error });
    if (!changed) break;
  }
  way.trace?.({ of, wins: "last error", candidates });
  return { scale, min: -low };
}

export function tracePositive(
  way: Way,
  of: string,
  x: Float32Array,
  w: Float32Array,
  N: number,
  codes: Uint8Array,
): number {
  const { lineage, a } = way;
  let high = 0;
  for (const v of x) if (!(high > v)) high = v;
  codes.fill(0);
  if (lineage.isZero(high)) return 0;
  let iscale = a.divide(N, high);
  for (let i = 0; i < x.length; i++) codes[i] = a.roundProduct(lineage.toByte, iscale, x[i]);
  const firstScale = a.divide(1, iscale);
  let best = positiveError(a, x, w, firstScale, (i) => codes[i]);
  const candidates: Candidate[] = [{ step: "range", scale: firstScale, value: best }];
  for (let step = -4; step <= 4; step++) {
    if (step === 0) continue;
    const trial = a.divide(a.mulAdd(TENTH, step, N), high);
    const scale = a.divide(1, trial);
    const codeOf = (i: number) => Math.min(N, a.roundProduct(lineage.toByte, trial, x[i]));
    const error = positiveError(a, x, w, scale, codeOf);
    candidates.push({ step: `${step}`, scale, value: error });
    if (isLess(a, error, best)) {
      best = error;
      iscale = trial;
    }
  }
  way.trace?.({ of, wins: "least error", candidates });
  let [sumlx, suml2] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    const l = Math.min(N, a.roundProduct(lineage.toFinalByte, iscale, x[i]));
    codes[i] = l;
    sumlx = a.mulAdd(f32(w[i] * x[i]), l, sumlx);
    suml2 = addSquare(way, w[i], l, suml2);
  }
  return descendPositive(way, x, w, N, codes, { sumlx, suml2 });
}

function positiveError(
  a: Arithmetic,
  x: Float32Array,
  w: Float32Array,
  scale: number,
  codeOf: (i: number) => number,
): number {
  let error = 0;
  for (let i = 0; i < x.length; i++) {
    const diff = a.mulAdd(-scale, codeOf(i), x[i]);
    error = a.mulAdd(f32(w[i] * diff), diff, error);
  }
  return error;
}

function descendPositive(
  way: Way,
  x: Float32Array,
  w: Float32Array,
  N: number,
  codes: Uint8Array,
  start: { sumlx: number; suml2: number },
): number {
  const { lineage, a } = way;
  let { sumlx, suml2 } = start;
  for (let sweep = 0; sweep < 5; sweep++) {
    let accepted = false;
    for (let i = 0; i < x.length; i++) {
      const l = codes[i];
      const wx = f32(w[i] * x[i]);
      let slx = a.mulAdd(-wx, l, sumlx);
      let sl2 = addSquare(way, -w[i], l, suml2);
      if (!(slx > 0 && sl2 > 0)) continue;
      const next = Math.min(N, lineage.toByte(a.divide(f32(x[i] * sl2), slx)));
      if (next === l) continue;
      slx = a.mulAdd(wx, next, slx);
      sl2 = addSquare(way, w[i], next, sl2);
      if (isMore(a, f32(f32(slx * slx) * suml2), f32(f32(sumlx * sumlx) * sl2))) {
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
