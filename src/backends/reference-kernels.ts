/** The arithmetic of the reference backend: plain strict loops over arrays, in the order ops.ts states. */

import { erf32, exp32, tanh32 } from "../math.js";
import type { Activation } from "./program.js";

const f32 = Math.fround;

/** Eight-lane dot of `length` elements from `aStart` and `bStart`; see ops.ts. */
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

const lanes = new Float32Array(8);

/** Sum of `count` values from `start` by the eight lanes of {@link dot}. */
function laneSum(values: Float32Array, start: number, count: number): number {
  lanes.fill(0);
  for (let i = 0; i < count; i++) lanes[i & 7] = f32(lanes[i & 7] + values[start + i]);
  let sum = lanes[0];
  for (let lane = 1; lane < 8; lane++) sum = f32(sum + lanes[lane]);
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

/** Layer norm of `weight.length` elements of `x` at `start` into `out` at the same place. */
export function centerRun(
  x: Float32Array,
  weight: Float32Array,
  bias: Float32Array,
  out: Float32Array,
  start: number,
  epsilon: number,
): void {
  const width = weight.length;
  const mean = f32(laneSum(x, start, width) / width);
  for (let i = start; i < start + width; i++) out[i] = f32(x[i] - mean);
  const variance = f32(dot(out, start, out, start, width) / width);
  const factor = f32(1 / f32(Math.sqrt(f32(variance + epsilon))));
  for (let i = 0; i < width; i++) {
    out[start + i] = f32(f32(f32(out[start + i] * factor) * weight[i]) + bias[i]);
  }
}

/**
 * Rotates the pairs (first + i·step, first + i·step + distance) in place; `angle` is where the position's cosines and
 * sines start.
 */
export function rotatePairs(
  x: Float32Array,
  first: number,
  step: number,
  distance: number,
  pairs: number,
  cosines: Float32Array,
  sines: Float32Array,
  angle: number,
): void {
  for (let i = 0; i < pairs; i++) {
    const at = first + i * step;
    const a = x[at];
    const b = x[at + distance];
    const cosine = cosines[angle + i];
    const sine = sines[angle + i];
    x[at] = f32(f32(a * cosine) - f32(b * sine));
    x[at + distance] = f32(f32(b * cosine) + f32(a * sine));
  }
}

const CUBIC = f32(0.044715);
const ROOT_TWO_OVER_PI = f32(0.7978845608028654);
const ROOT_HALF = f32(Math.SQRT1_2);

export const ACTIVATIONS: Readonly<Record<Activation, (x: number) => number>> = {
  sigmoid: (x) => f32(1 / f32(1 + exp32(-x))),
  silu: (x) => f32(x / f32(1 + exp32(-x))),
  geluTanh(x) {
    const cube = f32(f32(x * x) * x);
    const inner = f32(ROOT_TWO_OVER_PI * f32(x + f32(CUBIC * cube)));
    return f32(f32(0.5 * x) * f32(1 + tanh32(inner)));
  },
  geluErf: (x) => f32(f32(0.5 * x) * f32(1 + erf32(f32(x * ROOT_HALF)))),
};

/** values / cap, tanh, · cap for elements `first` to `last`. */
export function capRange(
  x: Float32Array,
  out: Float32Array,
  first: number,
  last: number,
  softcap: number,
): void {
  const cap = f32(softcap);
  for (let i = first; i < last; i++) out[i] = f32(tanh32(f32(x[i] / cap)) * cap);
}

/** Softmax of the first `count` values, in place; see ops.ts. */
export function softmax(values: Float32Array, count: number): void {
  let most = Number.NEGATIVE_INFINITY;
  for (let t = 0; t < count; t++) if (values[t] > most) most = values[t];
  for (let t = 0; t < count; t++) values[t] = exp32(f32(values[t] - most));
  const sum = laneSum(values, 0, count);
  for (let t = 0; t < count; t++) values[t] = f32(values[t] / sum);
}
