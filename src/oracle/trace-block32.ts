/** The encoders of the types with blocks of 32 once more: lineage, importance and arithmetic are arguments. */

import {
  clampInt,
  f32,
  floatFromHalf,
  halfFromFloat,
  roundHalfAway,
  signedByte,
  truncateToByte,
  writeHalf,
} from "../numerics.js";
import { signedPeak } from "../quants/search.js";
import { type AffineFit, importanceGrid } from "../quants/search-affine.js";
import type { IsqType } from "../quants/table.js";
import { type Arithmetic, type Round, STRICT } from "./arithmetic.js";
import { type Layout, layoutOf } from "./layout.js";
import { traceAffine } from "./trace-affine.js";
import { traceSymmetric } from "./trace-symmetric.js";
import { type BlockInput, isGgml, putCodes, report, rowWeights, type Way } from "./trace-way.js";

export function encode32(way: Way, input: BlockInput, block: Uint8Array): void {
  const { type, x, importance } = input;
  const weights = importance && rowWeights(way.a, x, importance, input.rowMeanSquare as number);
  const codes = new Uint8Array(32);
  if (type === "Q8_0" || type === "Q8_1") encodeBytes(way, type, x, codes, block);
  else if (type === "Q4_0" || type === "Q5_0") {
    const N = type === "Q4_0" ? 8 : 16;
    const d = weights
      ? traceSymmetric(way, "the block", x, weights, N, codes)
      : plainSymmetric(way, N, x, codes);
    writeHalf(block, 0, d);
  } else {
    const N = type === "Q4_1" ? 15 : 31;
    const fit = weights
      ? traceAffine(way, "the block", x, weights, importanceGrid(N), codes)
      : plainAffine(way, N, x, codes);
    writeHalf(block, 0, fit.scale);
    writeHalf(block, 2, -fit.min);
  }
  putCodes(layoutOf(type) as Layout, codes, block);
}
function plainSymmetric(way: Way, N: number, x: Float32Array, codes: Uint8Array): number {
  const { a } = way;
  const d = a.divide(signedPeak(x), -N);
  const id = d !== 0 ? a.divide(1, d) : 0;
  report(way, d, id);
  const toByte = isGgml(way) ? (v: number) => signedByte(truncateToByte(v)) : saturate;
  for (let i = 0; i < 32; i++) {
    if (a.round)
      codes[i] = clampInt(roundSymmetric(a, a.round, N, a.byReciprocal(x[i], d, id)), 0, 2 * N - 1);
    else codes[i] = Math.min(2 * N - 1, toByte(shifted(a, x[i], d, id, N + 0.5)));
  }
  return d;
}

const roundSymmetric = (a: Arithmetic, round: Round, N: number, v: number): number =>
  a.shiftFirst ? round(f32(v + N)) : round(v) + N;

const saturate = (v: number): number => clampInt(Math.trunc(v), 0, 255);

/** x·id + shift: the fused step of the types of 32. */
function shifted(a: Arithmetic, x: number, d: number, id: number, shift: number): number {
  if (a.byReciprocal !== STRICT.byReciprocal) return f32(a.byReciprocal(x, d, id) + shift);
  return a.mulAdd(x, id, shift);
}

function plainAffine(way: Way, N: number, x: Float32Array, codes: Uint8Array): AffineFit {
  const { a } = way;
  let [min, max] = [3.4028234663852886e38, -3.4028234663852886e38];
  for (const v of x) {
    if (v < min) min = v;
    if (v > max) max = v;
  }
  const d = a.divide(f32(max - min), N);
  const id = d !== 0 ? a.divide(1, d) : 0;
  report(way, d, id, -min);
  for (let i = 0; i < 32; i++) {
    const above = f32(x[i] - min);
    const v = shifted(a, above, d, id, 0.5);
    if (a.round) codes[i] = clampInt(a.round(a.byReciprocal(above, d, id)), 0, N);
    else if (!isGgml(way)) codes[i] = Math.min(N, saturate(v));
    else codes[i] = N === 15 ? Math.min(15, signedByte(truncateToByte(v))) : truncateToByte(v);
  }
  return { scale: d, min: -min };
}

const throughHalf = (v: number): number => floatFromHalf(halfFromFloat(v));

function encodeBytes(way: Way, type: IsqType, x: Float32Array, codes: Uint8Array, block: Uint8Array): void {
  const { a } = way;
  const d = a.divide(Math.abs(signedPeak(x)), 127);
  const id = d !== 0 ? a.divide(1, d) : 0;
  report(way, d, id);
  const round = a.round ?? ((v: number) => (Number.isFinite(v) ? roundHalfAway(v) : v));
  let sum = 0;
  for (let i = 0; i < 32; i++) {
    const v = a.byReciprocal(x[i], d, id);
    const q = isGgml(way)
      ? signedByte(truncateToByte(round(v)))
      : clampInt((a.round ?? roundHalfAway)(v), -128, 127);
    codes[i] = q;
    sum += q;
  }
  writeHalf(block, 0, d);
  if (type === "Q8_1")
    writeHalf(block, 2, isGgml(way) ? f32(sum * d) : f32(throughHalf(sum) * throughHalf(d)));
}
