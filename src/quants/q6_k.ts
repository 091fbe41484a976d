/** Q6_K: x ≈ (d·scale)·(code - 32), 8-bit scales for every 16 elements, upper two bits apart. */

import { f32, readHalf, signedByte, writeHalf } from "../numerics.js";
import type { BlockCodec } from "./codec.js";
import { viewActivations } from "./q8_k.js";
import { GGML, type Lineage, squares } from "./search.js";
import { searchSymmetric, searchSymmetricOld } from "./search-symmetric.js";
import {
  addLanes,
  addToLanes,
  encodeSuperBlocks,
  foldLanes,
  peakScale,
  recodeSymmetric,
  SUPER_BLOCK,
} from "./superblock.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q6K;
const N = 32;
const SUB = 16;
const SUBS = SUPER_BLOCK / SUB;
const QL = 0;
const QH = 128;
const SCALES = 192;
const D = 208;

function encodeBlock(
  lineage: Lineage,
  x: Float32Array,
  importance: Float32Array | undefined,
  block: Uint8Array,
) {
  const search = lineage === GGML ? searchSymmetric : searchSymmetricOld;
  const weights = importance ?? squares(x); // the raw importance: no sigma2 term, unlike the other K types
  const codes = new Uint8Array(SUPER_BLOCK);
  const scales = new Float32Array(SUBS);
  for (let j = 0; j < SUBS; j++) {
    const [from, to] = [j * SUB, (j + 1) * SUB];
    scales[j] = search(x.subarray(from, to), weights.subarray(from, to), N, codes.subarray(from, to));
  }
  const peak = peakScale(scales);
  // candle has no early return: a peak of 0 gives d = -0 and keeps the codes of the search.
  if (lineage === GGML && lineage.isZero(Math.abs(peak))) return;
  const iscale = f32(-128 / peak);
  const d = writeHalf(block, D, f32(1 / iscale));
  for (let j = 0; j < SUBS; j++) {
    const code = signedByte(Math.min(127, lineage.round(f32(iscale * scales[j]))));
    block[SCALES + j] = code;
    const [from, to] = [j * SUB, (j + 1) * SUB];
    recodeSymmetric(x.subarray(from, to), f32(d * code), N, codes.subarray(from, to), lineage);
  }
  packCodes(codes, block);
}

function packCodes(codes: Uint8Array, block: Uint8Array): void {
  for (let half = 0; half < 2; half++) {
    for (let l = 0; l < 32; l++) {
      const i = 128 * half + l;
      const [a, b, c, e] = [codes[i], codes[i + 32], codes[i + 64], codes[i + 96]];
      block[QL + 64 * half + l] = (a & 15) | ((c & 15) << 4);
      block[QL + 64 * half + 32 + l] = (b & 15) | ((e & 15) << 4);
      block[QH + 32 * half + l] = (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((e >> 4) << 6);
    }
  }
}

/** Signed values code - 32 of one block. */
function unpackValues(bytes: Uint8Array, offset: number, values: Int8Array): void {
  for (let half = 0; half < 2; half++) {
    for (let l = 0; l < 32; l++) {
      const ac = bytes[offset + QL + 64 * half + l];
      const be = bytes[offset + QL + 64 * half + 32 + l];
      const high = bytes[offset + QH + 32 * half + l];
      const i = 128 * half + l;
      values[i] = ((ac & 15) | ((high & 3) << 4)) - N;
      values[i + 32] = ((be & 15) | (((high >> 2) & 3) << 4)) - N;
      values[i + 64] = ((ac >> 4) | (((high >> 4) & 3) << 4)) - N;
      values[i + 96] = ((be >> 4) | ((high >> 6) << 4)) - N;
    }
  }
}

export const q6_k: BlockCodec = {
  type: "Q6K",

  encodeRow: (algorithm, values, importance, out) =>
    encodeSuperBlocks(algorithm, values, importance, out, blockBytes, [D], encodeBlock),

  decodeRow(bytes, out) {
    const values = new Int8Array(SUPER_BLOCK);
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      const o = b * blockBytes;
      const d = readHalf(bytes, o + D);
      unpackValues(bytes, o, values);
      for (let i = 0; i < SUPER_BLOCK; i++) {
        out[b * SUPER_BLOCK + i] = f32(f32(d * signedByte(bytes[o + SCALES + (i >> 4)])) * values[i]);
      }
    }
  },

  openRow(weights) {
    const blocks = weights.length / blockBytes;
    const values = new Int8Array(blocks * SUPER_BLOCK);
    const scales = new Int8Array(blocks * SUBS);
    for (let b = 0; b < blocks; b++) {
      unpackValues(weights, b * blockBytes, values.subarray(b * SUPER_BLOCK, (b + 1) * SUPER_BLOCK));
      scales.set(weights.subarray(b * blockBytes + SCALES, b * blockBytes + SCALES + SUBS), b * SUBS);
    }
    return (activations, order) => {
      const y = viewActivations(activations);
      const sums = new Float32Array(8);
      const lanes = new Int32Array(8);
      for (let b = 0; b < blocks; b++) {
        for (let j = 0; j < SUBS; j++) {
          const from = b * SUPER_BLOCK + j * SUB;
          addToLanes(lanes, scales[b * SUBS + j], values, from, y.codes, y.codesAt(b) + j * SUB, SUB);
        }
        foldLanes(sums, lanes, f32(readHalf(weights, b * blockBytes + D) * y.scale(b)));
      }
      return addLanes(0, sums, order);
    };
  },
};
