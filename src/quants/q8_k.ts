/** Q8_K: x ≈ d·q with a binary32 scale and the sums of 16 codes; the activation type of the K types. */

import { clampInt, f32, nearestInt, roundHalfAway, signedByte } from "../numerics.js";
import type { BlockCodec } from "./codec.js";
import { signedPeak } from "./search.js";
import { SUPER_BLOCK } from "./superblock.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q8K;
const QS = 4;
const BSUMS = 260;

/** A row of Q8_K blocks as numbers: `codes` is the whole row as signed bytes, block b's codes start at `codesAt(b)`. */
export interface ActivationRow {
  readonly codes: Int8Array;
  codesAt(b: number): number;
  scale(b: number): number;
  /** Sum of codes 16j … 16j + 15. */
  sum(b: number, j: number): number;
}

export function viewActivations(bytes: Uint8Array): ActivationRow {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    codes: new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    codesAt: (b) => b * blockBytes + QS,
    scale: (b) => view.getFloat32(b * blockBytes, true),
    sum: (b, j) => view.getInt16(b * blockBytes + BSUMS + 2 * j, true),
  };
}

export const q8_k: BlockCodec = {
  type: "Q8K",

  encodeRow(algorithm, values, _importance, out) {
    const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
    for (let b = 0; b < values.length / SUPER_BLOCK; b++) {
      const x = values.subarray(b * SUPER_BLOCK, (b + 1) * SUPER_BLOCK);
      const o = b * blockBytes;
      const peak = signedPeak(x);
      if (peak === 0) continue; // all bytes stay 0; ggml leaves the sums as they were and expects a zeroed buffer
      const iscale = f32(-127 / peak);
      for (let i = 0; i < SUPER_BLOCK; i++) {
        const v = f32(iscale * x[i]);
        out[o + QS + i] =
          algorithm === "ggml" ? Math.min(127, nearestInt(v)) : clampInt(roundHalfAway(v), -128, 127);
      }
      for (let j = 0; j < 16; j++) {
        let sum = 0;
        for (let i = 0; i < 16; i++) sum += signedByte(out[o + QS + 16 * j + i]);
        view.setInt16(o + BSUMS + 2 * j, sum, true);
      }
      view.setFloat32(o, f32(1 / iscale), true);
    }
    return 0;
  },

  decodeRow(bytes, out) {
    const row = viewActivations(bytes);
    for (let b = 0; b < out.length / SUPER_BLOCK; b++) {
      for (let i = 0; i < SUPER_BLOCK; i++) {
        out[b * SUPER_BLOCK + i] = f32(row.scale(b) * row.codes[row.codesAt(b) + i]);
      }
    }
  },

  openRow(weights) {
    const x = viewActivations(weights);
    return (activations) => {
      const y = viewActivations(activations);
      let sum = 0;
      for (let b = 0; b < weights.length / blockBytes; b++) {
        const at = x.codesAt(b);
        let integer = 0;
        for (let i = 0; i < SUPER_BLOCK; i++) integer += x.codes[at + i] * y.codes[at + i];
        sum = f32(sum + f32(f32(integer * x.scale(b)) * y.scale(b)));
      }
      return sum;
    };
  },
};
