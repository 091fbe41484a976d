/** Dot products of blocks with minima: the order of the float steps, which differs between the two lineages. */

import { expect, test } from "vitest";
import { f32, floatFromHalf } from "../../src/numerics.js";
import { dequantize, dot, quantize } from "../../src/quants/index.js";
import { gauss } from "../suites/encoders.js";

const COLUMNS = 32;
const half = (bytes: Uint8Array, at: number) => floatFromHalf(bytes[at] | (bytes[at + 1] << 8));

/** Whole-number products of a block, by decoded values: codes are exact quotients of values that have no minimum. */
function integers(
  type: "Q4_1" | "Q5_1",
  weights: Uint8Array,
  activations: Uint8Array,
  block: number,
): number {
  const bytes = weights.length / (COLUMNS / 32);
  const [d, m] = [half(weights, block * bytes), half(weights, block * bytes + 2)];
  const decoded = dequantize({ type, algorithm: "ggml", shape: [COLUMNS], data: weights });
  let sum = 0;
  for (let i = 0; i < 32; i++) {
    const code = Math.round((decoded[block * 32 + i] - m) / d);
    sum += code * ((activations[block * 36 + 4 + i] << 24) >> 24);
  }
  return sum;
}

test.each(["Q4_1", "Q5_1"] as const)("%s: scales first for ggml, integer first for mistralrs", (type) => {
  // The orders differ where an integer times a scale needs more than 24 bits, and no minimum covers the last ones.
  const large = (seed: number) => gauss(COLUMNS, seed).map((v, i) => (i === 0 ? 0 : Math.abs(v) + 0.1));
  let differing = 0;
  for (let seed = 0; seed < 40; seed++) {
    const { data } = quantize(type, large(seed), { shape: [COLUMNS] });
    const activations = quantize("Q8_1", large(seed + 100), { shape: [COLUMNS] }).data;
    const expected = { ggml: 0, mistralrs: 0 };
    for (let b = 0; b < COLUMNS / 32; b++) {
      const at = (b * data.length) / (COLUMNS / 32);
      const [d, m, dy, s] = [
        half(data, at),
        half(data, at + 2),
        half(activations, b * 36),
        half(activations, b * 36 + 2),
      ];
      const sum = integers(type, data, activations, b);
      const minima = f32(m * s);
      expected.ggml = f32(expected.ggml + f32(f32(f32(d * dy) * sum) + minima));
      expected.mistralrs = f32(expected.mistralrs + f32(f32(f32(sum * d) * dy) + minima));
    }
    for (const order of ["ggml", "mistralrs"] as const) {
      expect(dot(type, data, activations, order), `${order} ${seed}`).toBe(expected[order]);
    }
    differing += expected.ggml === expected.mistralrs ? 0 : 1;
  }
  expect(differing).toBeGreaterThan(3);
});

test("Q8_1: integers, the weights' scale, the activations' scale", () => {
  const weights = quantize("Q8_1", gauss(COLUMNS, 1), { shape: [COLUMNS] }).data;
  const activations = quantize("Q8_1", gauss(COLUMNS, 2), { shape: [COLUMNS] }).data;
  let expected = 0;
  for (let b = 0; b < COLUMNS / 32; b++) {
    let sum = 0;
    const byte = (bytes: Uint8Array, i: number) => (bytes[b * 36 + 4 + i] << 24) >> 24;
    for (let i = 0; i < 32; i++) sum += byte(weights, i) * byte(activations, i);
    expected = f32(expected + f32(f32(sum * half(weights, b * 36)) * half(activations, b * 36)));
  }
  expect(dot("Q8_1", weights, activations, "mistralrs")).toBe(expected);
});

test("Q8K: integers of a super-block, then the two scales", () => {
  const columns = 512;
  const [weights, activations] = [3, 4].map(
    (seed) => quantize("Q8K", gauss(columns, seed), { shape: [columns] }).data,
  );
  let expected = 0;
  for (let b = 0; b < columns / 256; b++) {
    const scale = (bytes: Uint8Array) =>
      new DataView(bytes.buffer, bytes.byteOffset).getFloat32(b * 292, true);
    const code = (bytes: Uint8Array, i: number) => (bytes[b * 292 + 4 + i] << 24) >> 24;
    let sum = 0;
    for (let i = 0; i < 256; i++) sum += code(weights, i) * code(activations, i);
    expected = f32(expected + f32(f32(sum * scale(weights)) * scale(activations)));
  }
  expect(expected).not.toBe(0);
  expect(dot("Q8K", weights, activations, "ggml")).toBe(expected);
});
