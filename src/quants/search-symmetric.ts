/** Searches for codes around zero: x ≈ scale·(code - N). Rules and sources: search.ts. */

import { clampInt, f32, nearestInt, roundHalfAway } from "../numerics.js";
import { GGML, type Lineage, signedPeak, squares, TENTH } from "./search.js";

/** Σ (w·x)·l and Σ (w·l)·l of the codes that `iscale` gives; fills `codes` with l + N. */
function fitSymmetric(
  x: Float32Array,
  w: Float32Array,
  N: number,
  iscale: number,
  round: Lineage["round"],
  codes: Uint8Array,
): { sumlx: number; suml2: number; changed: boolean } {
  let sumlx = 0;
  let suml2 = 0;
  let changed = false;
  for (let i = 0; i < x.length; i++) {
    const l = clampInt(round(f32(iscale * x[i])), -N, N - 1);
    if (codes[i] !== l + N) changed = true;
    codes[i] = l + N;
    sumlx = f32(sumlx + f32(f32(w[i] * x[i]) * l));
    suml2 = f32(suml2 + f32(f32(w[i] * l) * l));
  }
  return { sumlx, suml2, changed };
}

/**
 * QX, ggml: symmetric codes 0..2N-1 (value = code - N) under weights w. Tries 19 scales around peak / -N and keeps the
 * one that explains most. Returns the signed scale. Source: `make_qx_quants`, rmse type 1.
 */
export function searchSymmetric(x: Float32Array, w: Float32Array, N: number, codes: Uint8Array): number {
  const peak = signedPeak(x);
  codes.fill(0);
  if (GGML.isZero(Math.abs(peak))) return 0;
  const first = fitSymmetric(x, w, N, f32(-N / peak), nearestInt, codes);
  let scale = first.suml2 !== 0 ? f32(first.sumlx / first.suml2) : 0;
  let best = f32(scale * first.sumlx);
  const trial = new Uint8Array(x.length);
  for (let step = -9; step <= 9; step++) {
    if (step === 0) continue;
    const iscale = f32(-f32(N + f32(TENTH * step)) / peak);
    const { sumlx, suml2 } = fitSymmetric(x, w, N, iscale, nearestInt, trial);
    if (suml2 > 0 && f32(sumlx * sumlx) > f32(best * suml2)) {
      codes.set(trial);
      scale = f32(sumlx / suml2);
      best = f32(scale * sumlx);
    }
  }
  return scale;
}

/**
 * Coordinate descent on symmetric codes: up to five sweeps, each trying for every element the code that is best given
 * the others. Returns the sums after the last acceptance. `square` groups the weight with the squared code.
 */
function descend(
  x: Float32Array,
  w: Float32Array,
  N: number,
  codes: Uint8Array,
  start: { sumlx: number; suml2: number },
  round: Lineage["round"],
  square: Lineage["square"],
): { sumlx: number; suml2: number } {
  let { sumlx, suml2 } = start;
  for (let sweep = 0; sweep < 5; sweep++) {
    let accepted = false;
    for (let i = 0; i < x.length; i++) {
      const l = codes[i] - N;
      const wx = f32(w[i] * x[i]);
      let slx = f32(sumlx - f32(wx * l));
      if (!(slx > 0)) continue;
      let sl2 = f32(suml2 - square(w[i], l));
      const next = clampInt(round(f32(f32(x[i] * sl2) / slx)), -N, N - 1);
      if (next === l) continue;
      slx = f32(slx + f32(wx * next));
      sl2 = f32(sl2 + square(w[i], next));
      if (sl2 > 0 && f32(f32(slx * slx) * suml2) > f32(f32(sumlx * sumlx) * sl2)) {
        codes[i] = next + N;
        sumlx = slx;
        suml2 = sl2;
        accepted = true;
      }
    }
    if (!accepted) break;
  }
  return { sumlx, suml2 };
}

/** Q3S, both lineages: Q3_K's search without importance. Codes 0..7. Source: `make_q3_quants`. */
export function searchThreeBit(x: Float32Array, codes: Uint8Array, lineage: Lineage): number {
  const N = 4;
  const peak = signedPeak(x);
  codes.fill(0);
  if (lineage.isZero(Math.abs(peak))) return 0;
  const w = squares(x);
  const iscale = f32(-N / peak);
  let sumlx = 0;
  let suml2 = 0;
  for (let i = 0; i < x.length; i++) {
    const l = clampInt(lineage.round(f32(iscale * x[i])), -N, N - 1);
    codes[i] = l + N;
    sumlx = f32(sumlx + f32(f32(w[i] * x[i]) * l));
    suml2 = f32(suml2 + lineage.square(w[i], l));
  }
  const sums = descend(x, w, N, codes, { sumlx, suml2 }, lineage.round, lineage.square);
  return lineage.ratio(sums.sumlx, sums.suml2);
}

/**
 * Old QX, candle: symmetric codes 0..2N-1 under weights w by up to three re-scalings and a coordinate descent. Divisions
 * are unguarded: weights of zero give a NaN scale. Source: candle `make_qx_quants`, rmse type 1.
 */
export function searchSymmetricOld(x: Float32Array, w: Float32Array, N: number, codes: Uint8Array): number {
  const peak = signedPeak(x);
  codes.fill(0);
  if (peak === 0) return 0;
  let { sumlx, suml2 } = fitSymmetric(x, w, N, f32(-N / peak), roundHalfAway, codes);
  let scale = f32(sumlx / suml2);
  let best = f32(scale * sumlx);
  const trial = new Uint8Array(x.length);
  for (let round = 0; round < 3; round++) {
    trial.set(codes);
    const fit = fitSymmetric(x, w, N, f32(1 / scale), roundHalfAway, trial);
    if (!fit.changed || fit.suml2 === 0 || f32(fit.sumlx * fit.sumlx) <= f32(best * fit.suml2)) break;
    codes.set(trial);
    sumlx = fit.sumlx;
    suml2 = fit.suml2;
    scale = f32(sumlx / suml2);
    best = f32(scale * sumlx);
  }
  // The descent keeps scale = sumlx / suml2 of its last acceptance, and without one the scale so far: the same quotient.
  const sums = descend(x, w, N, codes, { sumlx, suml2 }, roundHalfAway, GGML.square);
  return f32(sums.sumlx / sums.suml2);
}
