/** What the six types with blocks of 32 share: walking a row, the two encoders (symmetric and affine), the row weight. */

import { clampInt, f32, readHalf, signedByte, truncateToByte } from "../numerics.js";
import { GGML, importanceWeights, signedPeak, sumOfSquares } from "./search.js";
import { importanceGrid, searchAffine } from "./search-affine.js";
import { searchSymmetric } from "./search-symmetric.js";
import type { Algorithm } from "./table.js";

const BLOCK = 32;
/** The largest finite binary32 number. */
const LARGEST = 3.4028234663852886e38;

/** Calls `encode` with every block's values, its importance weights (if any) and its bytes. */
export function forEachBlock32(
  values: Float32Array,
  importance: Float32Array | undefined,
  out: Uint8Array,
  blockBytes: number,
  encode: (x: Float32Array, weights: Float32Array | undefined, block: Uint8Array) => void,
): void {
  // The weight looks at the mean square of the whole row, so the row length is part of the result.
  const sigma2 = importance && f32(sumOfSquares(values) / values.length);
  for (let b = 0; b < values.length / BLOCK; b++) {
    const x = values.subarray(b * BLOCK, (b + 1) * BLOCK);
    const weights =
      importance && importanceWeights(x, importance.subarray(b * BLOCK, (b + 1) * BLOCK), sigma2 as number);
    encode(x, weights, out.subarray(b * blockBytes, (b + 1) * blockBytes));
  }
}

/** Codes 0..2N-1 around N, scale = peak / -N. Returns the scale. Q4_0: N = 8, Q5_0: N = 16. */
export function encodeSymmetric32(
  algorithm: Algorithm,
  N: number,
  x: Float32Array,
  weights: Float32Array | undefined,
  codes: Uint8Array,
): number {
  if (weights) return searchSymmetric(x, weights, N, codes);
  const d = f32(signedPeak(x) / -N);
  const id = d !== 0 ? f32(1 / d) : 0;
  const toCode = algorithm === "ggml" ? (v: number) => signedByte(truncateToByte(v)) : saturateToByte;
  for (let i = 0; i < BLOCK; i++) codes[i] = Math.min(2 * N - 1, toCode(f32(f32(x[i] * id) + (N + 0.5))));
  return d;
}

/** Codes 0..N above the block's minimum. Returns scale and minimum (as stored: added). Q4_1: N = 15, Q5_1: N = 31. */
export function encodeAffine32(
  algorithm: Algorithm,
  N: number,
  x: Float32Array,
  weights: Float32Array | undefined,
  codes: Uint8Array,
): { scale: number; min: number } {
  if (weights) {
    const fit = searchAffine(x, weights, importanceGrid(N), codes, GGML);
    return { scale: fit.scale, min: -fit.min };
  }
  let min = LARGEST;
  let max = -LARGEST;
  for (let i = 0; i < BLOCK; i++) {
    if (x[i] < min) min = x[i];
    if (x[i] > max) max = x[i];
  }
  const d = f32(f32(max - min) / N);
  const id = d !== 0 ? f32(1 / d) : 0;
  for (let i = 0; i < BLOCK; i++) {
    const v = f32(f32(f32(x[i] - min) * id) + 0.5);
    codes[i] = algorithm === "ggml" ? affineCode(N, v) : Math.min(N, saturateToByte(v));
  }
  return { scale: d, min };
}

/** ggml converts Q4_1 through int8 with a clamp and Q5_1 through uint8 without: only out-of-range values differ. */
function affineCode(N: number, v: number): number {
  return N === 15 ? Math.min(15, signedByte(truncateToByte(v))) : truncateToByte(v);
}

function saturateToByte(v: number): number {
  return clampInt(Math.trunc(v), 0, 255);
}

/**
 * Σ over blocks, in order, of the float step that `combine` makes of the block's integer dot product. `values` are the
 * row's signed code values; the activations' blocks have their codes at `codesOffset`.
 */
export function sumBlocks32(
  values: Int8Array,
  activations: Uint8Array,
  activationBytes: number,
  codesOffset: number,
  combine: (integer: number, b: number, activationOffset: number) => number,
): number {
  const codes = new Int8Array(activations.buffer, activations.byteOffset, activations.byteLength);
  let sum = 0;
  for (let b = 0; b < values.length / BLOCK; b++) {
    const at = b * activationBytes + codesOffset;
    let integer = 0;
    for (let i = 0; i < BLOCK; i++) integer += values[b * BLOCK + i] * codes[at + i];
    sum = f32(sum + combine(integer, b, b * activationBytes));
  }
  return sum;
}

/** The binary16 field at `offset` of every block of a row. */
export function readScales(bytes: Uint8Array, blockBytes: number, offset: number): Float32Array {
  return Float32Array.from({ length: bytes.length / blockBytes }, (_, b) =>
    readHalf(bytes, b * blockBytes + offset),
  );
}
