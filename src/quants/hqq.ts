/**
 * Half-quadratic quantization, groups of 64, shared by HQQ4 and HQQ8: x ≈ (code - zero)·scale. The scale comes from the
 * group's range; up to ten proximal rounds move the zero. Source: the "legacy" optimizer of the HQQ project as
 * mistral.rs ports it (mistralrs-quant/src/hqq).
 *
 * `mistralrs` groups elements j, j + M, … j + 63·M (M groups); `hqq` groups 64 consecutive ones. The stop test looks at
 * the whole tensor, so no part of it can be encoded alone.
 */

import { pow64 } from "../math.js";
import { clampInt, f32, roundHalfAway } from "../numerics.js";
import type { TensorCodec } from "./codec.js";
import type { Algorithm, IsqType } from "./table.js";

const GROUP = 64;
const ROUNDS = 10;
const KAPPA = 1.01;
const EXPONENT = f32(f32(0.7) - 1);
const MEAN = f32(1 / GROUP);
/**
 * Residuals at or below this shrink to zero: |a| - |a|^(p-1)/beta is positive only above beta^(-1/1.3), which is 0.17 in
 * the first round and 0.158 in the last.
 */
const NEVER_SHRUNK = 0.125;

/** Flat index of member r of group j. */
function indexer(algorithm: Algorithm, groups: number): (j: number, r: number) => number {
  return algorithm === "hqq" ? (j, r) => GROUP * j + r : (j, r) => j + r * groups;
}

/** sign(x)·max(0, |x| - inverseBeta·|x|^(p-1)). */
function shrink(x: number, inverseBeta: number): number {
  const a = Math.abs(x);
  if (a <= NEVER_SHRUNK) return 0;
  const t = f32(inverseBeta * f32(pow64(a, EXPONENT)));
  return a > t ? Math.sign(x) * f32(a - t) : 0;
}

interface Groups {
  /** Multiplier of each group: codes per unit. */
  readonly s: Float32Array;
  readonly z: Float32Array;
}

function initialGroups(
  w: Float32Array,
  groups: number,
  largest: number,
  at: (j: number, r: number) => number,
): Groups {
  const s = new Float32Array(groups);
  const z = new Float32Array(groups);
  for (let j = 0; j < groups; j++) {
    let min = w[at(j, 0)];
    let max = min;
    for (let r = 1; r < GROUP; r++) {
      min = Math.min(min, w[at(j, r)]);
      max = Math.max(max, w[at(j, r)]);
    }
    s[j] = Math.min(f32(f32(1 / f32(max - min)) * largest), 20000);
    z[j] = f32(-min * s[j]);
  }
  return { s, z };
}

function codeOf(w: number, s: number, z: number, largest: number): number {
  return clampInt(roundHalfAway(f32(f32(w * s) + z)), 0, largest);
}

/** One round over the tensor: moves every zero and returns the mean |residual| before the move. */
function moveZeros(
  w: Float32Array,
  { s, z }: Groups,
  largest: number,
  inverseBeta: number,
  at: (j: number, r: number) => number,
): number {
  let total = 0;
  for (let j = 0; j < s.length; j++) {
    let error = 0;
    let sum = 0;
    for (let r = 0; r < GROUP; r++) {
      const v = w[at(j, r)];
      const q = codeOf(v, s[j], z[j], largest);
      const x = f32(v - f32(f32(q - z[j]) / s[j]));
      const y = f32(q - f32(f32(v - shrink(x, inverseBeta)) * s[j]));
      sum = r === 0 ? y : f32(sum + y);
      error = f32(error + Math.abs(x));
    }
    z[j] = f32(sum * MEAN);
    total += error;
  }
  return f32(total / w.length);
}

export function hqqCodec(type: IsqType, bits: 4 | 8): TensorCodec {
  const largest = 2 ** bits - 1;
  return {
    type,

    encode(algorithm, values) {
      const groups = values.length / GROUP;
      const at = indexer(algorithm, groups);
      const fitted = initialGroups(values, groups, largest, at);
      let beta = 10;
      let best = 10000;
      for (let round = 0; round < ROUNDS; round++, beta *= KAPPA) {
        const error = moveZeros(values, fitted, largest, f32(1 / beta), at);
        if (!(error < best)) break; // the zeros of this last round are kept
        best = error;
      }
      const { s, z } = fitted;
      const data = new Uint8Array((values.length * bits) / 8);
      for (let r = 0; r < GROUP; r++) {
        for (let j = 0; j < groups; j++) {
          const code = codeOf(values[at(j, r)], s[j], z[j], largest);
          if (bits === 8) data[r * groups + j] = code;
          else data[(r & 31) * groups + j] |= r < 32 ? code << 4 : code;
        }
      }
      return { data, scales: s.map((v) => f32(1 / v)), zeros: z };
    },

    decode(tensor, out) {
      const { data, algorithm } = tensor;
      const scales = tensor.scales as Float32Array;
      const zeros = tensor.zeros as Float32Array;
      const groups = scales.length;
      const at = indexer(algorithm, groups);
      for (let r = 0; r < GROUP; r++) {
        for (let j = 0; j < groups; j++) {
          const byte = data[(bits === 8 ? r : r & 31) * groups + j];
          const code = bits === 8 ? byte : r < 32 ? byte >> 4 : byte & 15;
          out[at(j, r)] = f32(f32(code - zeros[j]) * scales[j]);
        }
      }
    },
  };
}
