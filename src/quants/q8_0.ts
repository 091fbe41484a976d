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

/** Σ of 32 products of signed bytes. Shared with Q8_1. */
export function dotBytes32(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): number {
  let integer = 0;
  for (let i = 0; i < 32; i++) integer += signedByte(a[aOffset + i]) * signedByte(b[bOffset + i]);
  return integer;
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

  dotRow(weights, activations, order) {
    let sum = 0;
    for (let o = 0; o < weights.length; o += blockBytes) {
      const integer = dotBytes32(weights, o + QS, activations, o + QS);
      const dx = readHalf(weights, o + D);
      const dy = readHalf(activations, o + D);
      sum = f32(sum + (order === "ggml" ? f32(integer * f32(dx * dy)) : f32(f32(integer * dx) * dy)));
    }
    return sum;
  },
};
