/** The encoders of the K types once more: lineage, importance and arithmetic are arguments. */

import { clampInt, f32, readHalf, signedByte, writeHalf } from "../numerics.js";
import { packSixBitPairs } from "../quants/scales.js";
import { signedPeak, squares, sumOf } from "../quants/search.js";
import { type AffineGrid, importanceGrid } from "../quants/search-affine.js";
import { largestFit, peakScale } from "../quants/superblock.js";
import type { IsqType } from "../quants/table.js";
import type { Arithmetic } from "./arithmetic.js";
import { type Layout, layoutOf, readBits, writeBits } from "./layout.js";
import { traceAffine, traceAffineOld, tracePositive } from "./trace-affine.js";
import { traceSymmetric, traceSymmetricOld, traceThreeBit } from "./trace-symmetric.js";
import { type BlockInput, isGgml, putCodes, report, rowWeights, type Way } from "./trace-way.js";

export function encode256(way: Way, input: BlockInput, block: Uint8Array): void {
  const codes = new Uint8Array(256);
  if (input.type === "Q8K") encodeWide(way, input, codes, block);
  else if (input.type === "Q3K" || input.type === "Q6K") encodeAround(way, input, codes, block);
  else encodeAbove(way, input, codes, block);
  putCodes(layoutOf(input.type) as Layout, codes, block);
}

function encodeWide(way: Way, { x }: BlockInput, codes: Uint8Array, block: Uint8Array): void {
  const { a, lineage } = way;
  const peak = signedPeak(x);
  if (peak === 0) return;
  const iscale = a.divide(-127, peak);
  const view = new DataView(block.buffer);
  const d = a.divide(1, iscale);
  report(way, d, iscale);
  view.setFloat32(0, d, true);
  for (let i = 0; i < 256; i++) {
    const q = a.roundProduct(lineage.round, iscale, x[i]);
    codes[i] = isGgml(way) ? Math.min(127, q) : clampInt(q, -128, 127);
  }
  for (let j = 0; j < 16; j++) {
    let sum = 0;
    for (let i = 0; i < 16; i++) sum += signedByte(codes[16 * j + i]);
    view.setInt16(260 + 2 * j, sum, true);
  }
}

/** Weights of a super-block under importance and their sums. */
function importance256(
  a: Arithmetic,
  x: Float32Array,
  importance: Float32Array,
  factor: number,
  sub: number,
) {
  let square = 0;
  for (const v of x) square = a.mulAdd(v, v, square);
  const weights = rowWeights(a, x, importance, f32(f32(factor * square) / 256));
  const sums = Float32Array.from({ length: 256 / sub }, (_, j) =>
    sumOf(weights.subarray(j * sub, (j + 1) * sub)),
  );
  return { weights, sums };
}

const part = <T extends Float32Array | Uint8Array>(all: T, j: number, sub: number): T =>
  all.subarray(j * sub, (j + 1) * sub) as T;

/** Q2_K, Q4_K and Q5_K. */
const AFFINE: Partial<Record<IsqType, AffineGrid & { sub: number; limit: number; d: number; dmin: number }>> =
  {
    Q2K: {
      N: 3,
      rmin: f32(-0.5),
      rdelta: f32(0.1),
      nstep: 15,
      absolute: true,
      sub: 16,
      limit: 15,
      d: 80,
      dmin: 82,
    },
    Q4K: { N: 15, rmin: -1, rdelta: f32(0.1), nstep: 20, absolute: false, sub: 32, limit: 63, d: 0, dmin: 2 },
    Q5K: {
      N: 31,
      rmin: f32(-0.5),
      rdelta: f32(0.1),
      nstep: 15,
      absolute: false,
      sub: 32,
      limit: 63,
      d: 0,
      dmin: 2,
    },
  };

function encodeAbove(way: Way, input: BlockInput, codes: Uint8Array, block: Uint8Array): void {
  const { type, x, importance } = input;
  const { a, lineage } = way;
  const grid = AFFINE[type] as NonNullable<(typeof AFFINE)[IsqType]>;
  const { sub, limit, N } = grid;
  const subs = 256 / sub;
  const [scaleCodes, minCodes] = [new Uint8Array(subs), new Uint8Array(subs)];
  if (importance) {
    const { weights, sums } = importance256(a, x, importance, sub === 32 ? 2 : 1, sub);
    const [scales, mins] = [new Float32Array(subs), new Float32Array(subs)];
    for (let j = 0; j < subs; j++) {
      const own = part(codes, j, sub);
      const fit = traceAffine(
        way,
        `sub-block ${j}`,
        part(x, j, sub),
        part(weights, j, sub),
        importanceGrid(N),
        own,
      );
      scales[j] = fit.scale;
      mins[j] = fit.min;
    }
    writeHalf(block, grid.d, tracePositive(way, "the scales", scales, sums, limit, scaleCodes));
    writeHalf(block, grid.dmin, tracePositive(way, "the minima", mins, sums, limit, minCodes));
    if (type === "Q5K")
      for (const list of [scaleCodes, minCodes]) list.set(list.map((code) => Math.min(63, code)));
  } else {
    const fits = Array.from({ length: subs }, (_, j) => {
      const values = part(x, j, sub);
      if (!isGgml(way)) return traceAffineOld(way, `sub-block ${j}`, values, N);
      return traceAffine(
        way,
        `sub-block ${j}`,
        values,
        plainWeights(a, type, values),
        grid,
        part(codes, j, sub),
      );
    });
    const largest = largestFit(fits);
    const [toScale, toMin] = [largest.scale, largest.min].map((v) => (v > 0 ? a.divide(limit, v) : 0));
    for (let j = 0; j < subs; j++) {
      scaleCodes[j] = stored(way, limit, f32(toScale * fits[j].scale));
      minCodes[j] = stored(way, limit, f32(toMin * fits[j].min));
    }
    writeHalf(block, grid.d, largest.scale > 0 || limit === 63 ? a.divide(largest.scale, limit) : 0);
    writeHalf(block, grid.dmin, largest.min > 0 || limit === 63 ? a.divide(largest.min, limit) : 0);
  }
  if (!isGgml(way)) codes.fill(0);
  if (limit === 63) packSixBitPairs(scaleCodes, minCodes, block, 4);
  else for (let j = 0; j < subs; j++) block[j] = scaleCodes[j] | (minCodes[j] << 4);
  const layout = layoutOf(type) as Layout;
  for (let j = 0; j < subs; j++) {
    const scale = f32(readHalf(block, grid.d) * readBits(block, layout.scales[j]));
    const min = f32(readHalf(block, grid.dmin) * readBits(block, layout.mins[j]));
    if (scale === 0) continue;
    for (let i = j * sub; i < (j + 1) * sub; i++) {
      codes[i] = clampInt(lineage.round(a.quotient(f32(x[i] + min), scale)), 0, N);
    }
  }
}

/** Q2_K stores what it rounds; Q4_K and Q5_K clamp, ggml after narrowing to a byte. */
function stored({ lineage, weightFirst }: Way, limit: number, v: number): number {
  if (limit === 15) return lineage.round(v);
  return Math.min(63, weightFirst ? lineage.round(v) & 255 : lineage.round(v));
}

/** |x| in Q2_K; average + |x| in the others. */
function plainWeights(a: Arithmetic, type: IsqType, x: Float32Array): Float32Array {
  if (type === "Q2K") return x.map(Math.abs);
  let square = 0;
  for (const v of x) square = a.mulAdd(v, v, square);
  const average = f32(Math.sqrt(f32(square / 32)));
  return x.map((v) => f32(average + Math.abs(v)));
}

/** Q3_K and Q6_K. */
function encodeAround(way: Way, input: BlockInput, codes: Uint8Array, block: Uint8Array): void {
  const { type, x, importance } = input;
  const { a, lineage } = way;
  const search = isGgml(way) ? traceSymmetric : traceSymmetricOld;
  const [N, dAt] = type === "Q3K" ? [4, 108] : [32, 208];
  const scales = new Float32Array(16);
  const { weights, sums } =
    importance && type === "Q3K"
      ? importance256(a, x, importance, 2, 16)
      : { weights: importance ?? squares(x), sums: scales };
  for (let j = 0; j < 16; j++) {
    const [values, own] = [part(x, j, 16), part(codes, j, 16)];
    scales[j] =
      type === "Q3K" && !importance
        ? traceThreeBit(way, `sub-block ${j}`, values, own)
        : search(way, `sub-block ${j}`, values, part(weights, j, 16), N, own);
  }
  const layout = layoutOf(type) as Layout;
  const scaleCodes = new Uint8Array(16);
  if (type === "Q3K" && importance)
    writeHalf(block, dAt, search(way, "the scales", scales, sums, 32, scaleCodes));
  else if (!scaleOfScales(way, type, scales, scaleCodes, codes, block)) return;
  for (let j = 0; j < 16; j++) {
    writeBits(block, layout.scales[j], scaleCodes[j]);
    const code = type === "Q3K" ? scaleCodes[j] - 32 : signedByte(scaleCodes[j]);
    const scale = f32(readHalf(block, dAt) * code);
    if (scale === 0) continue;
    for (let i = 16 * j; i < 16 * j + 16; i++) {
      codes[i] = clampInt(lineage.round(a.quotient(x[i], scale)), -N, N - 1) + N;
    }
  }
}

/** d and the codes of the scales from the peak scale. False where the block ends as zeros (ggml's Q6_K). */
function scaleOfScales(
  way: Way,
  type: IsqType,
  scales: Float32Array,
  scaleCodes: Uint8Array,
  codes: Uint8Array,
  block: Uint8Array,
): boolean {
  const { a, lineage } = way;
  const ggml = isGgml(way);
  const peak = peakScale(scales);
  if (type === "Q3K") {
    if (!ggml) codes.fill(0);
    if (peak === 0) return true;
    const iscale = a.divide(-32, peak);
    for (let j = 0; j < 16; j++) {
      const rounded = a.roundProduct(lineage.round, iscale, scales[j]);
      scaleCodes[j] = clampInt(ggml ? signedByte(rounded) : rounded, -32, 31) + 32;
    }
    writeHalf(block, 108, a.divide(1, iscale));
    return true;
  }
  if (ggml && lineage.isZero(Math.abs(peak))) {
    codes.fill(0);
    return false;
  }
  const iscale = a.divide(-128, peak);
  writeHalf(block, 208, a.divide(1, iscale));
  for (let j = 0; j < 16; j++)
    scaleCodes[j] = Math.min(127, a.roundProduct(lineage.round, iscale, scales[j]));
  return true;
}
