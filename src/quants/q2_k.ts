/** Q2_K: x ≈ (d·scale)·code - dmin·min, 4-bit scales and minima for every 16 elements. */

import { f32, readHalf, writeHalf } from "../numerics.js";
import type { BlockCodec } from "./codec.js";
import { viewActivations } from "./q8_k.js";
import { packPairs, unpackPairs } from "./scales.js";
import { GGML, type Lineage } from "./search.js";
import {
  type AffineFit,
  type AffineGrid,
  importanceGrid,
  searchAffine,
  searchAffineOld,
  searchPositive,
} from "./search-affine.js";
import { encodeSuperBlocks, largestFit, recodeAffine, SUPER_BLOCK, superBlockWeights } from "./superblock.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q2K;
const N = 3;
const SUB = 16;
const SUBS = SUPER_BLOCK / SUB;
const SCALES = 0;
const QS = 16;
const D = 80;
const DMIN = 82;
const GRID: AffineGrid = { N, rmin: f32(-0.5), rdelta: f32(0.1), nstep: 15, absolute: true };

function encodeBlock(
  lineage: Lineage,
  x: Float32Array,
  importance: Float32Array | undefined,
  block: Uint8Array,
) {
  const codes = new Uint8Array(SUPER_BLOCK);
  if (importance) scaleWithImportance(lineage, x, importance, codes, block);
  else scalePlain(lineage, x, codes, block);
  if (lineage !== GGML) codes.fill(0); // candle forgets the codes of its search
  const d = readHalf(block, D);
  const dmin = readHalf(block, DMIN);
  for (let j = 0; j < SUBS; j++) {
    const scale = f32(d * (block[SCALES + j] & 15));
    const min = f32(dmin * (block[SCALES + j] >> 4));
    recodeAffine(sub(x, j), scale, min, N, codes.subarray(j * SUB, (j + 1) * SUB), lineage);
  }
  packPairs(codes, block, QS);
}

const sub = (x: Float32Array, j: number): Float32Array => x.subarray(j * SUB, (j + 1) * SUB);

function scalePlain(lineage: Lineage, x: Float32Array, codes: Uint8Array, block: Uint8Array): void {
  const fits: AffineFit[] = [];
  for (let j = 0; j < SUBS; j++) {
    const part = sub(x, j);
    fits[j] =
      lineage === GGML
        ? searchAffine(part, part.map(Math.abs), GRID, codes.subarray(j * SUB, (j + 1) * SUB), lineage)
        : searchAffineOld(part, N);
  }
  const largest = largestFit(fits);
  if (largest.scale > 0) {
    const inverse = f32(15 / largest.scale);
    for (let j = 0; j < SUBS; j++) block[SCALES + j] = lineage.round(f32(inverse * fits[j].scale));
  }
  writeHalf(block, D, largest.scale > 0 ? f32(largest.scale / 15) : 0);
  if (largest.min > 0) {
    const inverse = f32(15 / largest.min);
    for (let j = 0; j < SUBS; j++) block[SCALES + j] |= lineage.round(f32(inverse * fits[j].min)) << 4;
  }
  writeHalf(block, DMIN, largest.min > 0 ? f32(largest.min / 15) : 0);
}

function scaleWithImportance(
  lineage: Lineage,
  x: Float32Array,
  importance: Float32Array,
  codes: Uint8Array,
  block: Uint8Array,
): void {
  const { weights, sums } = superBlockWeights(x, importance, 1, SUB);
  const scales = new Float32Array(SUBS);
  const mins = new Float32Array(SUBS);
  for (let j = 0; j < SUBS; j++) {
    const part = codes.subarray(j * SUB, (j + 1) * SUB);
    const fit = searchAffine(sub(x, j), sub(weights, j), importanceGrid(N), part, lineage);
    scales[j] = fit.scale;
    mins[j] = fit.min;
  }
  const scaleCodes = new Uint8Array(SUBS);
  const minCodes = new Uint8Array(SUBS);
  writeHalf(block, D, searchPositive(scales, sums, 15, scaleCodes, lineage));
  writeHalf(block, DMIN, searchPositive(mins, sums, 15, minCodes, lineage));
  for (let j = 0; j < SUBS; j++) block[SCALES + j] = scaleCodes[j] | (minCodes[j] << 4);
}

export const q2_k: BlockCodec = {
  type: "Q2K",

  encodeRow: (algorithm, values, importance, out) =>
    encodeSuperBlocks(algorithm, values, importance, out, blockBytes, [D, DMIN], encodeBlock),

  decodeRow(bytes, out) {
    const codes = new Uint8Array(SUPER_BLOCK);
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      const o = b * blockBytes;
      const d = readHalf(bytes, o + D);
      const dmin = readHalf(bytes, o + DMIN);
      unpackPairs(bytes, o + QS, codes);
      for (let i = 0; i < SUPER_BLOCK; i++) {
        const packed = bytes[o + SCALES + (i >> 4)];
        const scaled = f32(f32(d * (packed & 15)) * codes[i]);
        out[b * SUPER_BLOCK + i] = f32(scaled - f32(dmin * (packed >> 4)));
      }
    }
  },

  openRow(weights) {
    const blocks = weights.length / blockBytes;
    const codes = new Uint8Array(blocks * SUPER_BLOCK);
    for (let b = 0; b < blocks; b++) {
      unpackPairs(weights, b * blockBytes + QS, codes.subarray(b * SUPER_BLOCK, (b + 1) * SUPER_BLOCK));
    }
    return (activations) => {
      const y = viewActivations(activations);
      let sum = 0;
      for (let b = 0; b < blocks; b++) {
        let products = 0;
        let minima = 0;
        for (let j = 0; j < SUBS; j++) {
          const packed = weights[b * blockBytes + SCALES + j];
          const from = b * SUPER_BLOCK + j * SUB;
          const at = y.codesAt(b) + j * SUB;
          let part = 0;
          for (let i = 0; i < SUB; i++) part += codes[from + i] * y.codes[at + i];
          products += (packed & 15) * part;
          minima += (packed >> 4) * y.sum(b, j);
        }
        const d = f32(y.scale(b) * readHalf(weights, b * blockBytes + D));
        const dmin = f32(y.scale(b) * readHalf(weights, b * blockBytes + DMIN));
        sum = f32(sum + f32(f32(d * products) - f32(dmin * minima)));
      }
      return sum;
    };
  },
};
