/** Q3_K: x ≈ d·(scale - 32)·(code - 4), 6-bit scales for every 16 elements, high bits apart. */

import { clampInt, f32, readHalf, signedByte, writeHalf } from "../numerics.js";
import type { BlockCodec } from "./codec.js";
import { viewActivations } from "./q8_k.js";
import { packPairs, packSixBitScales, unpackPairs, unpackSixBitScales } from "./scales.js";
import { GGML, type Lineage } from "./search.js";
import { searchSymmetric, searchSymmetricOld, searchThreeBit } from "./search-symmetric.js";
import {
  addLanes,
  addToLanes,
  encodeSuperBlocks,
  foldLanes,
  peakScale,
  recodeSymmetric,
  SUPER_BLOCK,
  superBlockWeights,
} from "./superblock.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q3K;
const N = 4;
const SUB = 16;
const SUBS = SUPER_BLOCK / SUB;
const HMASK = 0;
const QS = 32;
const SCALES = 96;
const D = 108;

function encodeBlock(
  lineage: Lineage,
  x: Float32Array,
  importance: Float32Array | undefined,
  block: Uint8Array,
) {
  const codes = new Uint8Array(SUPER_BLOCK);
  const scaleCodes = new Uint8Array(SUBS);
  if (importance) scaleWithImportance(lineage, x, importance, codes, scaleCodes, block);
  else scalePlain(lineage, x, codes, scaleCodes, block);
  packSixBitScales(scaleCodes, block, SCALES);
  const d = readHalf(block, D);
  unpackSixBitScales(block, SCALES, scaleCodes);
  for (let j = 0; j < SUBS; j++) {
    const part = codes.subarray(j * SUB, (j + 1) * SUB);
    recodeSymmetric(x.subarray(j * SUB, (j + 1) * SUB), f32(d * (scaleCodes[j] - 32)), N, part, lineage);
  }
  for (let i = 0; i < SUPER_BLOCK; i++) if (codes[i] > 3) block[HMASK + (i & 31)] |= 1 << (i >> 5);
  packPairs(codes, block, QS);
}

function scalePlain(
  lineage: Lineage,
  x: Float32Array,
  codes: Uint8Array,
  scaleCodes: Uint8Array,
  block: Uint8Array,
): void {
  const scales = new Float32Array(SUBS);
  for (let j = 0; j < SUBS; j++) {
    const part = codes.subarray(j * SUB, (j + 1) * SUB);
    scales[j] = searchThreeBit(x.subarray(j * SUB, (j + 1) * SUB), part, lineage);
  }
  if (lineage !== GGML) codes.fill(0); // candle forgets the codes of its search
  const peak = peakScale(scales);
  if (peak === 0) return; // d and the scale bytes stay 0
  const iscale = f32(-32 / peak);
  for (let j = 0; j < SUBS; j++) {
    const rounded = lineage.round(f32(iscale * scales[j]));
    scaleCodes[j] = clampInt(lineage === GGML ? signedByte(rounded) : rounded, -32, 31) + 32;
  }
  writeHalf(block, D, f32(1 / iscale));
}

function scaleWithImportance(
  lineage: Lineage,
  x: Float32Array,
  importance: Float32Array,
  codes: Uint8Array,
  scaleCodes: Uint8Array,
  block: Uint8Array,
): void {
  const search = lineage === GGML ? searchSymmetric : searchSymmetricOld;
  const { weights, sums } = superBlockWeights(x, importance, 2, SUB);
  const scales = new Float32Array(SUBS);
  for (let j = 0; j < SUBS; j++) {
    const [from, to] = [j * SUB, (j + 1) * SUB];
    scales[j] = search(x.subarray(from, to), weights.subarray(from, to), N, codes.subarray(from, to));
  }
  writeHalf(block, D, search(scales, sums, 32, scaleCodes));
}

/** Signed values code - 4 of one block. */
function unpackValues(bytes: Uint8Array, offset: number, values: Int8Array): void {
  const low = new Uint8Array(SUPER_BLOCK);
  unpackPairs(bytes, offset + QS, low);
  for (let i = 0; i < SUPER_BLOCK; i++) {
    const high = (bytes[offset + HMASK + (i & 31)] >> (i >> 5)) & 1;
    values[i] = low[i] + 4 * high - N;
  }
}

export const q3_k: BlockCodec = {
  type: "Q3K",

  encodeRow: (algorithm, values, importance, out) =>
    encodeSuperBlocks(algorithm, values, importance, out, blockBytes, [D], encodeBlock),

  decodeRow(bytes, out) {
    const values = new Int8Array(SUPER_BLOCK);
    const scales = new Uint8Array(SUBS);
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      const d = readHalf(bytes, b * blockBytes + D);
      unpackValues(bytes, b * blockBytes, values);
      unpackSixBitScales(bytes, b * blockBytes + SCALES, scales);
      for (let i = 0; i < SUPER_BLOCK; i++) {
        out[b * SUPER_BLOCK + i] = f32(f32(d * (scales[i >> 4] - 32)) * values[i]);
      }
    }
  },

  openRow(weights) {
    const blocks = weights.length / blockBytes;
    const values = new Int8Array(blocks * SUPER_BLOCK);
    const scales = new Uint8Array(blocks * SUBS);
    for (let b = 0; b < blocks; b++) {
      unpackValues(weights, b * blockBytes, values.subarray(b * SUPER_BLOCK, (b + 1) * SUPER_BLOCK));
      unpackSixBitScales(weights, b * blockBytes + SCALES, scales.subarray(b * SUBS, (b + 1) * SUBS));
    }
    return (activations, order) => {
      const y = viewActivations(activations);
      const sums = new Float32Array(8);
      const lanes = new Int32Array(8);
      for (let b = 0; b < blocks; b++) {
        for (let j = 0; j < SUBS; j++) {
          const from = b * SUPER_BLOCK + j * SUB;
          addToLanes(lanes, scales[b * SUBS + j] - 32, values, from, y.codes, y.codesAt(b) + j * SUB, SUB);
        }
        foldLanes(sums, lanes, f32(readHalf(weights, b * blockBytes + D) * y.scale(b)));
      }
      return addLanes(0, sums, order);
    };
  },
};
