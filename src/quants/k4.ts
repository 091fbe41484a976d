/** What Q4_K and Q5_K share: 32-element sub-blocks with 6-bit scales and minima; they differ in code width and grid. */

import { f32, readHalf, roundHalfAway, writeHalf } from "../numerics.js";
import type { DotRow } from "./codec.js";
import { viewActivations } from "./q8_k.js";
import { packSixBitPairs, unpackSixBitPairs } from "./scales.js";
import { GGML, type Lineage, sumOfSquares } from "./search.js";
import {
  type AffineFit,
  type AffineGrid,
  importanceGrid,
  searchAffine,
  searchAffineOld,
  searchPositive,
} from "./search-affine.js";
import {
  addLanes,
  addToLanes,
  foldLanes,
  largestFit,
  recodeAffine,
  SUPER_BLOCK,
  superBlockWeights,
} from "./superblock.js";

const SUB = 32;
const SUBS = SUPER_BLOCK / SUB;
export const D = 0;
export const DMIN = 2;
export const SCALES = 4;

/** Chooses scales and minima, writes them to the block, and returns the 256 codes 0..grid.N. */
export function encodeSixBit(
  lineage: Lineage,
  grid: AffineGrid,
  x: Float32Array,
  importance: Float32Array | undefined,
  block: Uint8Array,
): Uint8Array {
  const codes = new Uint8Array(SUPER_BLOCK);
  const scaleCodes = new Uint8Array(SUBS);
  const minCodes = new Uint8Array(SUBS);
  if (importance) scaleWithImportance(lineage, grid, x, importance, codes, scaleCodes, minCodes, block);
  else scalePlain(lineage, grid, x, codes, scaleCodes, minCodes, block);
  if (lineage !== GGML) codes.fill(0); // candle forgets the codes of its search
  packSixBitPairs(scaleCodes, minCodes, block, SCALES);
  unpackSixBitPairs(block, SCALES, scaleCodes, minCodes);
  const d = readHalf(block, D);
  const dmin = readHalf(block, DMIN);
  for (let j = 0; j < SUBS; j++) {
    const part = codes.subarray(j * SUB, (j + 1) * SUB);
    recodeAffine(sub(x, j), f32(d * scaleCodes[j]), f32(dmin * minCodes[j]), grid.N, part, lineage);
  }
  return codes;
}

const sub = (x: Float32Array, j: number): Float32Array => x.subarray(j * SUB, (j + 1) * SUB);

function scalePlain(
  lineage: Lineage,
  grid: AffineGrid,
  x: Float32Array,
  codes: Uint8Array,
  scaleCodes: Uint8Array,
  minCodes: Uint8Array,
  block: Uint8Array,
): void {
  const fits: AffineFit[] = [];
  for (let j = 0; j < SUBS; j++) {
    const part = sub(x, j);
    fits[j] =
      lineage === GGML
        ? searchAffine(part, plainWeights(part), grid, codes.subarray(j * SUB, (j + 1) * SUB), lineage)
        : searchAffineOld(part, grid.N);
  }
  const largest = largestFit(fits);
  const inverseScale = largest.scale > 0 ? f32(63 / largest.scale) : 0;
  const inverseMin = largest.min > 0 ? f32(63 / largest.min) : 0;
  for (let j = 0; j < SUBS; j++) {
    scaleCodes[j] = sixBits(lineage, f32(inverseScale * fits[j].scale));
    minCodes[j] = sixBits(lineage, f32(inverseMin * fits[j].min));
  }
  writeHalf(block, D, f32(largest.scale / 63));
  writeHalf(block, DMIN, f32(largest.min / 63));
}

/** ggml narrows to a byte before it clamps; candle clamps the integer. */
function sixBits(lineage: Lineage, v: number): number {
  return lineage === GGML ? Math.min(63, lineage.round(v) & 255) : Math.min(63, roundHalfAway(v));
}

/** av + |x|, av = sqrt(mean square). */
function plainWeights(x: Float32Array): Float32Array {
  const average = f32(Math.sqrt(f32(sumOfSquares(x) / SUB)));
  return x.map((v) => f32(average + Math.abs(v)));
}

function scaleWithImportance(
  lineage: Lineage,
  grid: AffineGrid,
  x: Float32Array,
  importance: Float32Array,
  codes: Uint8Array,
  scaleCodes: Uint8Array,
  minCodes: Uint8Array,
  block: Uint8Array,
): void {
  const { weights, sums } = superBlockWeights(x, importance, 2, SUB);
  const scales = new Float32Array(SUBS);
  const mins = new Float32Array(SUBS);
  for (let j = 0; j < SUBS; j++) {
    const part = codes.subarray(j * SUB, (j + 1) * SUB);
    const fit = searchAffine(sub(x, j), sub(weights, j), importanceGrid(grid.N), part, lineage);
    scales[j] = fit.scale;
    mins[j] = fit.min;
  }
  writeHalf(block, D, searchPositive(scales, sums, 63, scaleCodes, lineage));
  writeHalf(block, DMIN, searchPositive(mins, sums, 63, minCodes, lineage));
  if (grid.N === 31) clampWrapped(scaleCodes, minCodes);
}

/**
 * A code that the search rounds below 0 wraps to a byte above 63 (extreme importance only). Q5_K clamps it before it is
 * packed; Q4_K packs it as it is.
 */
function clampWrapped(...lists: Uint8Array[]): void {
  for (const codes of lists) codes.set(codes.map((code) => Math.min(63, code)));
}

/** y = ((d·scale)·code) - (dmin·min) for one block. */
export function decodeSixBit(
  bytes: Uint8Array,
  offset: number,
  codes: Uint8Array,
  out: Float32Array,
  outOffset: number,
): void {
  const scales = new Uint8Array(SUBS);
  const mins = new Uint8Array(SUBS);
  const d = readHalf(bytes, offset + D);
  const dmin = readHalf(bytes, offset + DMIN);
  unpackSixBitPairs(bytes, offset + SCALES, scales, mins);
  for (let i = 0; i < SUPER_BLOCK; i++) {
    const j = i >> 5;
    out[outOffset + i] = f32(f32(f32(d * scales[j]) * codes[i]) - f32(dmin * mins[j]));
  }
}

/** Opens a row for dot products with Q8_K activations; `unpack` gives the codes of the block at a byte offset. */
export function openSixBit(
  weights: Uint8Array,
  blockBytes: number,
  unpack: (offset: number, codes: Uint8Array) => void,
): DotRow {
  const blocks = weights.length / blockBytes;
  const values = new Int8Array(blocks * SUPER_BLOCK); // codes are at most 31
  const scales = new Uint8Array(blocks * SUBS);
  const mins = new Uint8Array(blocks * SUBS);
  const codes = new Uint8Array(SUPER_BLOCK);
  for (let b = 0; b < blocks; b++) {
    const part = [b * SUBS, (b + 1) * SUBS] as const;
    unpack(b * blockBytes, codes);
    values.set(codes, b * SUPER_BLOCK);
    unpackSixBitPairs(weights, b * blockBytes + SCALES, scales.subarray(...part), mins.subarray(...part));
  }
  return (activations, order) => {
    const y = viewActivations(activations);
    const sums = new Float32Array(8);
    const lanes = new Int32Array(8);
    let minima = 0;
    for (let b = 0; b < blocks; b++) {
      for (let j = 0; j < SUBS; j++) {
        const from = b * SUPER_BLOCK + j * SUB;
        addToLanes(lanes, scales[b * SUBS + j], values, from, y.codes, y.codesAt(b) + j * SUB, SUB);
      }
      foldLanes(sums, lanes, f32(readHalf(weights, b * blockBytes + D) * y.scale(b)));
      let integer = 0;
      for (let j = 0; j < 16; j++) integer += y.sum(b, j) * mins[b * SUBS + (j >> 1)];
      minima = f32(minima - f32(f32(readHalf(weights, b * blockBytes + DMIN) * y.scale(b)) * integer));
    }
    return addLanes(minima, sums, order);
  };
}
