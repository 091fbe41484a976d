/** Q8_0: x ≈ d·q with signed codes; also the activation type of Q4_0, Q5_0 and Q8_0. */

import {
  clampInt,
  f32,
  readHalf,
  roundHalfAway,
  signedByte,
  truncateToByte,
  writeHalf,
} from "../numerics.js";
import { readScales, sumBlocks32 } from "./block32.js";
import type { BlockCodec } from "./codec.js";
import { signedPeak } from "./search.js";
import { type Algorithm, TYPES } from "./table.js";

const { blockBytes } = TYPES.Q8_0;
const D = 0;
const QS = 2;

/** Writes 32 codes at `offset`, returns the unrounded scale and the sum of the codes. Shared with Q8_1. */
export function encodeBytes32(
  algorithm: Algorithm,
  x: Float32Array,
  block: Uint8Array,
  offset: number,
): { d: number; sum: number } {
  const d = f32(Math.abs(signedPeak(x)) / 127);
  const id = d !== 0 ? f32(1 / d) : 0;
  let sum = 0;
  for (let i = 0; i < 32; i++) {
    const v = f32(x[i] * id);
    const q =
      algorithm === "ggml" ? signedByte(truncateToByte(roundAway(v))) : clampInt(roundHalfAway(v), -128, 127);
    block[offset + i] = q;
    sum += q;
  }
  return { d, sum };
}

/** C's roundf: ties away from zero, infinities and NaN kept. */
function roundAway(v: number): number {
  return Number.isFinite(v) ? roundHalfAway(v) : v;
}

/** The signed codes of a row, block after block. Shared with Q8_1. */
export function unpackBytes32(bytes: Uint8Array, blockBytes: number, offset: number): Int8Array {
  const values = new Int8Array((bytes.length / blockBytes) * 32);
  for (let i = 0; i < values.length; i++) values[i] = bytes[(i >> 5) * blockBytes + offset + (i & 31)];
  return values;
}

export const q8_0: BlockCodec = {
  type: "Q8_0",

  encodeRow(algorithm, values, _importance, out) {
    for (let b = 0; b < values.length / 32; b++) {
      const block = out.subarray(b * blockBytes, (b + 1) * blockBytes);
      const { d } = encodeBytes32(algorithm, values.subarray(b * 32, (b + 1) * 32), block, QS);
      writeHalf(block, D, d);
    }
    return 0;
  },

  decodeRow(bytes, out) {
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      const d = readHalf(bytes, b * blockBytes + D);
      for (let i = 0; i < 32; i++) out[b * 32 + i] = f32(signedByte(bytes[b * blockBytes + QS + i]) * d);
    }
  },

  openRow(weights) {
    const scales = readScales(weights, blockBytes, D);
    const values = unpackBytes32(weights, blockBytes, QS);
    return (activations, order) =>
      sumBlocks32(values, activations, blockBytes, QS, (integer, b, a) => {
        const dy = readHalf(activations, a + D);
        return order === "ggml" ? f32(integer * f32(scales[b] * dy)) : f32(f32(integer * scales[b]) * dy);
      });
  },
};
