/** Q8_1: Q8_0 plus s, the scaled sum of the codes; also the activation type of Q4_1 and Q5_1. */

import { f32, floatFromHalf, halfFromFloat, readHalf, signedByte, writeHalf } from "../numerics.js";
import { readScales, sumBlocks32 } from "./block32.js";
import type { BlockCodec } from "./codec.js";
import { encodeBytes32, unpackBytes32 } from "./q8_0.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q8_1;
const D = 0;
const S = 2;
const QS = 4;

const throughHalf = (v: number): number => floatFromHalf(halfFromFloat(v));

export const q8_1: BlockCodec = {
  type: "Q8_1",

  encodeRow(algorithm, values, _importance, out) {
    for (let b = 0; b < values.length / 32; b++) {
      const block = out.subarray(b * blockBytes, (b + 1) * blockBytes);
      const { d, sum } = encodeBytes32(algorithm, values.subarray(b * 32, (b + 1) * 32), block, QS);
      writeHalf(block, D, d);
      // ggml scales the sum by the unrounded d; candle multiplies two numbers already rounded to binary16.
      writeHalf(block, S, algorithm === "ggml" ? f32(sum * d) : f32(throughHalf(sum) * throughHalf(d)));
    }
    return 0;
  },

  decodeRow(bytes, out) {
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      const d = readHalf(bytes, b * blockBytes + D);
      for (let i = 0; i < 32; i++) out[b * 32 + i] = f32(d * signedByte(bytes[b * blockBytes + QS + i]));
    }
  },

  openRow(weights) {
    const scales = readScales(weights, blockBytes, D);
    const values = unpackBytes32(weights, blockBytes, QS);
    return (activations) =>
      sumBlocks32(values, activations, blockBytes, QS, (integer, b, a) =>
        f32(f32(integer * scales[b]) * readHalf(activations, a + D)),
      );
  },
};
