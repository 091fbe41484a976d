/**
 * The searches around zero of src/quants/search-symmetric.ts once more, with the arithmetic as an argument and every
 * candidate reported. A test holds them to the reference.
 */

import { clampInt, f32 } from "../numerics.js";
import { GGML, signedPeak, squares, TENTH } from "../quants/search.js";
import { isMore } from "./arithmetic.js";
import type { Candidate } from "./trace.js";
import { addSquare, type Way } from "./trace-way.js";

interface Sums {
  sumlx: number;
  suml2: number;
}

/** What codes explain: Σwxl² / Σwll, for reports alone. */
const scoreOf = ({ sumlx, suml2 }: Sums): number => (suml2 > 0 ? f32(f32(sumlx * sumlx) / suml2) : 0);

function fitCodes(
  way: Way,
  x: Float32Array,
  w: Float32Array,
  N: number,
  iscale: number,
  codes: Uint8Array,
): Sums & { changed: boolean } {
  const { a, lineage } = way;
  let [sumlx, suml2] = [0, 0];
  let changed = false;
  for (let i = 0; i < x.length; i++) {
    const l = clampInt(a.roundProduct(lineage.round, iscale, x[i]), -N, N - 1);
    if (codes[i] !== l + N) changed = true;
    codes[i] = l + N;
    sumlx = a.mulAdd(f32(w[i] * x[i]), l, sumlx);
    suml2 = addSquare(way, w[i], l, suml2);
  }
  return { sumlx, suml2, changed };
}

/** ggml: 19 scales around peak / -N. */
export function traceSymmetric(
  way: Way,
  of: string,
  x: Float32Array,
  w: Float32Array,
  N: number,
  codes: Uint8Array,
): number {
  const { a } = way;
  const peak = signedPeak(x);
  codes.fill(0);
  if (GGML.isZero(Math.abs(peak))) return 0;
  const inverse = a.divide(-N, peak);
  const first = fitCodes(way, x, w, N, inverse, codes);
  let scale = first.suml2 !== 0 ? a.divide(first.sumlx, first.suml2) : 0;
  let best = f32(scale * first.sumlx);
  const candidates: Candidate[] = [{ step: "peak", scale, inverse, value: scoreOf(first) }];
  const trial = new Uint8Array(x.length);
  for (let step = -9; step <= 9; step++) {
    if (step === 0) continue;
    const iscale = a.divide(-a.mulAdd(TENTH, step, N), peak);
    const sums = fitCodes(way, x, w, N, iscale, trial);
    const { sumlx, suml2 } = sums;
    if (suml2 > 0) {
      const trialScale = a.divide(sumlx, suml2);
      candidates.push({ step: `${step}`, scale: trialScale, inverse: iscale, value: scoreOf(sums) });
    }
    if (suml2 > 0 && isMore(a, f32(sumlx * sumlx), f32(best * suml2))) {
      codes.set(trial);
      scale = a.divide(sumlx, suml2);
      best = f32(scale * sumlx);
    }
  }
  way.trace?.({ of, wins: "largest score", candidates });
  return scale;
}

/** Coordinate descent; reports the start and what every accepted step reached. */
function descend(
  way: Way,
  of: string,
  x: Float32Array,
  w: Float32Array,
  N: number,
  codes: Uint8Array,
  start: Sums,
): Sums {
  const { a, lineage } = way;
  let { sumlx, suml2 } = start;
  const candidates: Candidate[] = [{ step: "start", scale: a.divide(sumlx, suml2), value: scoreOf(start) }];
  for (let sweep = 0; sweep < 5; sweep++) {
    let accepted = false;
    for (let i = 0; i < x.length; i++) {
      const l = codes[i] - N;
      const wx = f32(w[i] * x[i]);
      let slx = a.mulAdd(-wx, l, sumlx);
      if (!(slx > 0)) continue;
      let sl2 = addSquare(way, -w[i], l, suml2);
      const next = clampInt(lineage.round(a.divide(f32(x[i] * sl2), slx)), -N, N - 1);
      if (next === l) continue;
      slx = a.mulAdd(wx, next, slx);
      sl2 = addSquare(way, w[i], next, sl2);
      if (sl2 > 0) {
        const step = `sweep ${sweep + 1}, element ${i}: ${l} to ${next}`;
        candidates.push({ step, scale: a.divide(slx, sl2), value: scoreOf({ sumlx: slx, suml2: sl2 }) });
      }
      if (sl2 > 0 && isMore(a, f32(f32(slx * slx) * suml2), f32(f32(sumlx * sumlx) * sl2))) {
        codes[i] = next + N;
        sumlx = slx;
        suml2 = sl2;
        accepted = true;
      }
    }
    if (!accepted) break;
  }
  way.trace?.({ of, wins: "largest score", candidates });
  return { sumlx, suml2 };
}

/** Q3_K without importance, both lineages. */
export function traceThreeBit(way: Way, of: string, x: Float32Array, codes: Uint8Array): number {
  const { a, lineage } = way;
  const N = 4;
  const peak = signedPeak(x);
  codes.fill(0);
  if (lineage.isZero(Math.abs(peak))) return 0;
  const w = squares(x);
  const start = fitCodes(way, x, w, N, a.divide(-N, peak), codes);
  const sums = descend(way, of, x, w, N, codes, start);
  return lineage.ratio(sums.sumlx, sums.suml2);
}

/** candle: up to three re-scalings, then the descent. */
export function traceSymmetricOld(
  candle: Way,
  of: string,
  x: Float32Array,
  w: Float32Array,
  N: number,
  codes: Uint8Array,
): number {
  const way = { ...candle, weightFirst: true };
  const { a } = way;
  const peak = signedPeak(x);
  codes.fill(0);
  if (peak === 0) return 0;
  let { sumlx, suml2 } = fitCodes(way, x, w, N, a.divide(-N, peak), codes);
  let scale = a.divide(sumlx, suml2);
  let best = f32(scale * sumlx);
  const trial = new Uint8Array(x.length);
  for (let round = 0; round < 3; round++) {
    trial.set(codes);
    const next = fitCodes(way, x, w, N, a.divide(1, scale), trial);
    if (!next.changed || next.suml2 === 0 || f32(next.sumlx * next.sumlx) <= f32(best * next.suml2)) break;
    codes.set(trial);
    ({ sumlx, suml2 } = next);
    scale = a.divide(sumlx, suml2);
    best = f32(scale * sumlx);
  }
  const sums = descend(way, of, x, w, N, codes, { sumlx, suml2 });
  return a.divide(sums.sumlx, sums.suml2);
}
