/** Q4_0: x ≈ d·(code - 8). */

import { f32, readHalf, writeHalf } from "../numerics.js";
import { encodeSymmetric32, forEachBlock32, readScales, sumBlocks32 } from "./block32.js";
import type { BlockCodec } from "./codec.js";
import { packNibbles, unpackNibbles } from "./scales.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q4_0;
const ACTIVATION = TYPES.Q8_0;
const ACTIVATION_CODES = 2;
const N = 8;
const D = 0;
const QS = 2;

export const q4_0: BlockCodec = {
  type: "Q4_0",

  encodeRow(algorithm, values, importance, out) {
    const codes = new Uint8Array(32);
    forEachBlock32(values, importance, out, blockBytes, (x, weights, block) => {
      writeHalf(block, D, encodeSymmetric32(algorithm, N, x, weights, codes));
      packNibbles(codes, block, QS);
    });
    return 0;
  },

  decodeRow(bytes, out) {
    const codes = new Uint8Array(32);
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      const d = readHalf(bytes, b * blockBytes + D);
      unpackNibbles(bytes, b * blockBytes + QS, codes);
      for (let i = 0; i < 32; i++) out[b * 32 + i] = f32((codes[i] - N) * d);
    }
  },

  openRow(weights) {
    const scales = readScales(weights, blockBytes, D);
    const codes = new Uint8Array(32);
    const values = new Int8Array(scales.length * 32);
    for (let b = 0; b < scales.length; b++) {
      unpackNibbles(weights, b * blockBytes + QS, codes);
      for (let i = 0; i < 32; i++) values[b * 32 + i] = codes[i] - N;
    }
    return (activations) =>
      sumBlocks32(values, activations, ACTIVATION.blockBytes, ACTIVATION_CODES, (integer, b, a) =>
        f32(f32(integer * scales[b]) * readHalf(activations, a)),
      );
  },
};
