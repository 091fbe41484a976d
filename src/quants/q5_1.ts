/** Q5_1: x ≈ d·code + m, fifth bits apart. */

import { f32, readHalf, signedByte, writeHalf } from "../numerics.js";
import { encodeAffine32, forEachBlock32 } from "./block32.js";
import type { BlockCodec } from "./codec.js";
import { packFifthBits, packNibbles, unpackFifthBits, unpackNibbles } from "./scales.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q5_1;
const ACTIVATION_BYTES = TYPES.Q8_1.blockBytes;
const N = 31;
const D = 0;
const M = 2;
const QH = 4;
const QS = 8;

export const q5_1: BlockCodec = {
  type: "Q5_1",

  encodeRow(algorithm, values, importance, out) {
    const codes = new Uint8Array(32);
    forEachBlock32(values, importance, out, blockBytes, (x, weights, block) => {
      const { scale, min } = encodeAffine32(algorithm, N, x, weights, codes);
      writeHalf(block, D, scale);
      writeHalf(block, M, min);
      packFifthBits(codes, block, QH);
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
      unpackFifthBits(bytes, b * blockBytes + QH, codes);
      for (let i = 0; i < 32; i++) out[b * 32 + i] = f32(f32(codes[i] * d) + m);
    }
  },

  dotRow(weights, activations, order) {
    const codes = new Uint8Array(32);
    let sum = 0;
    for (let b = 0; b < weights.length / blockBytes; b++) {
      const w = b * blockBytes;
      const a = b * ACTIVATION_BYTES;
      unpackNibbles(weights, w + QS, codes);
      unpackFifthBits(weights, w + QH, codes);
      let integer = 0;
      for (let i = 0; i < 32; i++) integer += codes[i] * signedByte(activations[a + 4 + i]);
      const dx = readHalf(weights, w + D);
      const dy = readHalf(activations, a);
      const product = order === "ggml" ? f32(f32(dx * dy) * integer) : f32(f32(integer * dx) * dy);
      sum = f32(sum + f32(product + f32(readHalf(weights, w + M) * readHalf(activations, a + 2))));
    }
    return sum;
  },
};
