/**
 * The reference with the arithmetic of ggml's portable CPU kernels where it decides what comes out: sums are binary64 (dots
 * of F32, RMS norms), GELU comes from a table of F16 (vec.h), and products with F16 weights round the activations to F16.
 */

import type * as Kernels from "../../src/backends/reference-kernels.js";
import type * as Linear from "../../src/backends/reference-linear.js";
import { floatFromHalf, halfFromFloat } from "../../src/numerics.js";

const f32 = Math.fround;
const round = (value: number) => floatFromHalf(halfFromFloat(value));

/** Products are binary32, their sum is not. */
const dot: typeof Kernels.dot = (a, aStart, b, bStart, length) => {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += f32(a[aStart + i] * b[bStart + i]);
  return f32(sum);
};

const dotFour: typeof Kernels.dotFour = (a, aStart, b, bStart, bStride, length, out, outStart, outStride) => {
  for (let n = 0; n < 4; n++) out[outStart + n * outStride] = dot(a, aStart, b, bStart + n * bStride, length);
};

const normRun: typeof Kernels.normRun = (x, weight, out, start, width, epsilon) => {
  let sum = 0;
  for (let i = start; i < start + width; i++) sum += f32(x[i] * x[i]);
  const factor = f32(1 / f32(Math.sqrt(f32(f32(sum / width) + epsilon))));
  for (let i = 0; i < width; i++) out[start + i] = f32(f32(x[start + i] * factor) * weight[i]);
};

/** The kernels of the reference, as ggml has them. */
export function ggmlKernels(kernels: typeof Kernels): typeof Kernels {
  const geluTanh = (x: number) => {
    if (x <= -10) return 0;
    return x >= 10 ? x : round(kernels.ACTIVATIONS.geluTanh(round(x)));
  };
  return { ...kernels, dot, dotFour, normRun, ACTIVATIONS: { ...kernels.ACTIVATIONS, geluTanh } };
}

/** The products of the reference, as ggml has them. */
export function ggmlProducts(linear: typeof Linear): typeof Linear {
  const multiplyRows: typeof Linear.multiplyRows = (weight, x, rows, out) => {
    const { values, width } = x;
    const isHalf = weight.type === "F16";
    linear.multiplyRows(weight, isHalf ? { values: values.map(round), width } : x, rows, out);
  };
  return { ...linear, multiplyRows };
}
