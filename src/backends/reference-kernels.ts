/** The arithmetic of the reference backend: plain strict loops over arrays, in the order program.ts states. */

import { exp32 } from "../math.js";

const f32 = Math.fround;

/** Eight-lane dot of `length` elements from `aStart` and `bStart`; see program.ts. */
export function dot(
  a: Float32Array,
  aStart: number,
  b: Float32Array,
  bStart: number,
  length: number,
): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let s4 = 0;
  let s5 = 0;
  let s6 = 0;
  let s7 = 0;
  const rest = length & 7;
  let i = aStart;
  let j = bStart;
  for (const end = aStart + length - rest; i < end; i += 8, j += 8) {
    s0 = f32(s0 + f32(a[i] * b[j]));
    s1 = f32(s1 + f32(a[i + 1] * b[j + 1]));
    s2 = f32(s2 + f32(a[i + 2] * b[j + 2]));
    s3 = f32(s3 + f32(a[i + 3] * b[j + 3]));
    s4 = f32(s4 + f32(a[i + 4] * b[j + 4]));
    s5 = f32(s5 + f32(a[i + 5] * b[j + 5]));
    s6 = f32(s6 + f32(a[i + 6] * b[j + 6]));
    s7 = f32(s7 + f32(a[i + 7] * b[j + 7]));
  }
  if (rest > 0) s0 = f32(s0 + f32(a[i] * b[j]));
  if (rest > 1) s1 = f32(s1 + f32(a[i + 1] * b[j + 1]));
  if (rest > 2) s2 = f32(s2 + f32(a[i + 2] * b[j + 2]));
  if (rest > 3) s3 = f32(s3 + f32(a[i + 3] * b[j + 3]));
  if (rest > 4) s4 = f32(s4 + f32(a[i + 4] * b[j + 4]));
  if (rest > 5) s5 = f32(s5 + f32(a[i + 5] * b[j + 5]));
  if (rest > 6) s6 = f32(s6 + f32(a[i + 6] * b[j + 6]));
  return f32(f32(f32(f32(f32(f32(f32(s0 + s1) + s2) + s3) + s4) + s5) + s6) + s7);
}

/**
 * The dots of `a` with four rows of `b`, `bStride` apart, into `out` at `outStart`, `outStride` apart. The bits of four
 * calls of {@link dot}: each lane is summed by itself, and the lanes one after the other. Several times faster, because
 * a[i] is loaded once and the four sums do not wait for each other.
 */
export function dotFour(
  a: Float32Array,
  aStart: number,
  b: Float32Array,
  bStart: number,
  bStride: number,
  length: number,
  out: Float32Array,
  outStart: number,
  outStride: number,
): void {
  let total0 = 0;
  let total1 = 0;
  let total2 = 0;
  let total3 = 0;
  for (let lane = 0; lane < 8; lane++) {
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    for (let i = lane; i < length; i += 8) {
      const value = a[aStart + i];
      const j = bStart + i;
      s0 = f32(s0 + f32(value * b[j]));
      s1 = f32(s1 + f32(value * b[j + bStride]));
      s2 = f32(s2 + f32(value * b[j + 2 * bStride]));
      s3 = f32(s3 + f32(value * b[j + 3 * bStride]));
    }
    // The first lane is added to 0, which changes nothing: a lane sum is never -0.
    total0 = f32(total0 + s0);
    total1 = f32(total1 + s1);
    total2 = f32(total2 + s2);
    total3 = f32(total3 + s3);
  }
  out[outStart] = total0;
  out[outStart + outStride] = total1;
  out[outStart + 2 * outStride] = total2;
  out[outStart + 3 * outStride] = total3;
}

/** Sum by the eight lanes of {@link dot}. `scratch` has eight elements. */
export function laneSum(values: Float32Array, length: number, scratch: Float32Array): number {
  scratch.fill(0);
  for (let i = 0; i < length; i++) scratch[i & 7] = f32(scratch[i & 7] + values[i]);
  let sum = scratch[0];
  for (let lane = 1; lane < 8; lane++) sum = f32(sum + scratch[lane]);
  return sum;
}

/** RMS norm of `width` elements of `x` at `start` into `out` at the same place. */
export function normRun(
  x: Float32Array,
  weight: Float32Array,
  out: Float32Array,
  start: number,
  width: number,
  epsilon: number,
): void {
  const mean = f32(dot(x, start, x, start, width) / width);
  const factor = f32(1 / f32(Math.sqrt(f32(mean + epsilon))));
  for (let i = 0; i < width; i++) out[start + i] = f32(f32(x[start + i] * factor) * weight[i]);
}

/** Rotates the half-split pairs of one head in place; `angle` is where the position's cosines and sines start. */
export function rotateHead(
  x: Float32Array,
  start: number,
  pairs: number,
  cosines: Float32Array,
  sines: Float32Array,
  angle: number,
): void {
  for (let i = 0; i < pairs; i++) {
    const a = x[start + i];
    const b = x[start + pairs + i];
    const cosine = cosines[angle + i];
    const sine = sines[angle + i];
    x[start + i] = f32(f32(a * cosine) - f32(b * sine));
    x[start + pairs + i] = f32(f32(b * cosine) + f32(a * sine));
  }
}

/** silu(gate) · up. */
export function gateSilu(
  gate: Float32Array,
  up: Float32Array,
  out: Float32Array,
  first: number,
  last: number,
): void {
  for (let i = first; i < last; i++) {
    const x = gate[i];
    out[i] = f32(f32(x / f32(1 + exp32(-x))) * up[i]);
  }
}

export function addRange(
  a: Float32Array,
  b: Float32Array,
  out: Float32Array,
  first: number,
  last: number,
): void {
  for (let i = first; i < last; i++) out[i] = f32(a[i] + b[i]);
}

/** Turns `count` scores into weights p_t / sum; see `attention` in program.ts. */
export function softmax(scores: Float32Array, count: number, scratch: Float32Array): void {
  let most = Number.NEGATIVE_INFINITY;
  for (let t = 0; t < count; t++) if (scores[t] > most) most = scores[t];
  for (let t = 0; t < count; t++) scores[t] = exp32(f32(scores[t] - most));
  const sum = laneSum(scores, count, scratch);
  for (let t = 0; t < count; t++) scores[t] = f32(scores[t] / sum);
}
