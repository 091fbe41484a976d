/** Q4_1: x ≈ d·code + m. */

import { f32, readHalf, writeHalf } from "../numerics.js";
import { encodeAffine32, forEachBlock32, readScales, sumBlocks32 } from "./block32.js";
import type { BlockCodec } from "./codec.js";
import { packNibbles, unpackNibbles } from "./scales.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q4_1;
const ACTIVATION = TYPES.Q8_1;
const ACTIVATION_CODES = 4;
const N = 15;
const D = 0;
const M = 2;
const QS = 4;

export const q4_1: BlockCodec = {
  type: "Q4_1",

  encodeRow(algorithm, values, importance, out) {
    const codes = new Uint8Array(32);
    forEachBlock32(values, importance, out, blockBytes, (x, weights, block) => {
      const { scale, min } = encodeAffine32(algorithm, N, x, weights, codes);
      writeHalf(block, D, scale);
      writeHalf(block, M, min);
      packNibbles(codes, block, QS);
    });
    return 0;
  },

  decodeRow(bytes, out) {
    const codes = new Uint8Array(32);
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      const d = readHalf(bytes, b * blockBytes + D);
      const m = readHalf(bytes, b * blockBytes + M);
      unpackNibbles(bytes, b * blockBytes + QS, codes);
      for (let i = 0; i < 32; i++) out[b * 32 + i] = f32(f32(codes[i] * d) + m);
    }
  },

  openRow(weights) {
    const scales = readScales(weights, blockBytes, D);
    const mins = readScales(weights, blockBytes, M);
    const codes = new Uint8Array(32);
    const values = new Int8Array(scales.length * 32);
    for (let b = 0; b < scales.length; b++) {
      unpackNibbles(weights, b * blockBytes + QS, codes);
      values.set(codes, b * 32);
    }
    return (activations, order) =>
      sumBlocks32(values, activations, ACTIVATION.blockBytes, ACTIVATION_CODES, (integer, b, a) => {
        const dy = readHalf(activations, a);
        const product =
          order === "ggml" ? f32(f32(scales[b] * dy) * integer) : f32(f32(integer * scales[b]) * dy);
        return f32(product + f32(mins[b] * readHalf(activations, a + 2)));
      });
  },
};
