/** Q5_0: x ≈ d·(code - 16), fifth bits apart. */

import { f32, readHalf, signedByte, writeHalf } from "../numerics.js";
import { encodeSymmetric32, forEachBlock32 } from "./block32.js";
import type { BlockCodec } from "./codec.js";
import { packFifthBits, packNibbles, unpackFifthBits, unpackNibbles } from "./scales.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q5_0;
const ACTIVATION_BYTES = TYPES.Q8_0.blockBytes;
const N = 16;
const D = 0;
const QH = 2;
const QS = 6;

export const q5_0: BlockCodec = {
  type: "Q5_0",

  encodeRow(algorithm, values, importance, out) {
    const codes = new Uint8Array(32);
    forEachBlock32(values, importance, out, blockBytes, (x, weights, block) => {
      writeHalf(block, D, encodeSymmetric32(algorithm, N, x, weights, codes));
      packFifthBits(codes, block, QH);
      packNibbles(codes, block, QS);
    });
    return 0;
  },

  decodeRow(bytes, out) {
    const codes = new Uint8Array(32);
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      const d = readHalf(bytes, b * blockBytes + D);
      unpackNibbles(bytes, b * blockBytes + QS, codes);
      unpackFifthBits(bytes, b * blockBytes + QH, codes);
      for (let i = 0; i < 32; i++) out[b * 32 + i] = f32((codes[i] - N) * d);
    }
  },

  dotRow(weights, activations) {
    const codes = new Uint8Array(32);
    let sum = 0;
    for (let b = 0; b < weights.length / blockBytes; b++) {
      const a = b * ACTIVATION_BYTES;
      unpackNibbles(weights, b * blockBytes + QS, codes);
      unpackFifthBits(weights, b * blockBytes + QH, codes);
      let integer = 0;
      for (let i = 0; i < 32; i++) integer += (codes[i] - N) * signedByte(activations[a + 2 + i]);
      const dx = readHalf(weights, b * blockBytes + D);
      sum = f32(sum + f32(f32(dx * readHalf(activations, a)) * integer));
    }
    return sum;
  },
};
