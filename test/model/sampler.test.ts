import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Bank } from "../../src/backends/wasm-bank.js";
import { wasmLogits } from "../../src/backends/wasm-logits.js";
import { isIsqError } from "../../src/errors.js";
import { scalarLogits } from "../../src/model/logits.js";
import { createRandom, createSampler, pickLargest, type SamplerOptions } from "../../src/model/sampler.js";
import { compareFloats } from "../suites/compare.js";
import { SEED } from "../suites/rows.js";

const LOGITS = Float32Array.of(1, 3, 2, -1, 3, 0);

function draw(options: SamplerOptions, count = 4000): number[] {
  const sampler = createSampler(options);
  return Array.from({ length: count }, () => sampler(LOGITS));
}

describe("sampling", () => {
  test("is greedy without a temperature, the lowest id among equals", () => {
    expect(pickLargest(LOGITS)).toBe(1);
    expect(new Set(draw({ seed: 5 }, 10))).toEqual(new Set([1]));
  });

  test("gives the same tokens for the same seed and others for another", () => {
    const options = { temperature: 0.8, topK: 5, topP: 0.95, seed: 42 };
    expect(draw(options)).toEqual(draw(options));
    expect(draw(options)).not.toEqual(draw({ ...options, seed: 43 }));
    expect(draw({ temperature: 1, seed: 1 })).not.toEqual(draw({ temperature: 1, seed: 2 ** 40 + 1 }));
  });

  test("draws with the softmax's frequencies", () => {
    const count = 40_000;
    const temperature = 1.5;
    const tokens = draw({ temperature, seed: 1 }, count);
    const weights = [...LOGITS].map((logit) => Math.exp(logit / temperature));
    const total = weights.reduce((a, b) => a + b);
    for (const [id, weight] of weights.entries()) {
      const share = tokens.filter((token) => token === id).length / count;
      expect(Math.abs(share - weight / total)).toBeLessThan(0.01);
    }
  });

  test("keeps only the top k, and of these the shortest list that reaches p", () => {
    expect(new Set(draw({ temperature: 2, topK: 3 }))).toEqual(new Set([1, 2, 4]));
    expect(new Set(draw({ temperature: 2, topK: 1 }))).toEqual(new Set([1]));
    expect(new Set(draw({ temperature: 1, topP: 0.5 }))).toEqual(new Set([1, 4]));
    expect(new Set(draw({ temperature: 1, topP: 1e-9 }))).toEqual(new Set([1]));
    expect(new Set(draw({ temperature: 1, topP: 1 })).size).toBeGreaterThan(4);
  });

  test("survives infinite logits and tiny temperatures, and refuses NaN", () => {
    const infinite = Float32Array.of(Number.NEGATIVE_INFINITY, 5, Number.POSITIVE_INFINITY, 5);
    expect(createSampler({ temperature: 1 })(infinite)).toBe(2);
    expect(createSampler({ temperature: 1e-300 })(LOGITS)).toBeOneOf([1, 4]);
    const broken = Float32Array.of(1, Number.NaN);
    for (const temperature of [0, 1]) {
      expect(() => createSampler({ temperature })(broken)).toThrowError(/token 1/);
    }
  });

  test("refuses impossible options by name", () => {
    const bad: [string, SamplerOptions][] = [
      ["temperature", { temperature: -1 }],
      ["temperature", { temperature: Number.NaN }],
      ["topK", { topK: 0 }],
      ["topK", { topK: 1.5 }],
      ["topP", { topP: 0 }],
      ["topP", { topP: 1.1 }],
      ["seed", { seed: -1 }],
      ["seed", { seed: 2 ** 53 }],
    ];
    for (const [field, options] of bad) {
      try {
        createSampler(options);
        expect.unreachable();
      } catch (error) {
        expect(isIsqError(error, "option/invalid") && error.details.field).toBe(field);
      }
    }
  });
});

describe("the generator", () => {
  test("is uniform in [0, 1) and frozen", () => {
    const random = createRandom(0);
    const numbers = Array.from({ length: 100_000 }, random);
    expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...numbers)).toBeLessThan(1);
    const buckets = new Array(16).fill(0);
    for (const number of numbers) buckets[Math.floor(number * 16)]++;
    for (const bucket of buckets) expect(Math.abs(bucket - 6250)).toBeLessThan(400);
    expect(numbers.slice(0, 2)).toMatchInlineSnapshot(`
      [
        0.5733975785795894,
        0.10578142327814422,
      ]
    `);
  });
});

describe("logits in SIMD", () => {
  const value = fc.oneof(
    fc.float({ min: -40, max: 40, noNaN: true }),
    fc.constantFrom(0, -0, 7, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3.4028234663852886e38),
  );

  test("give the same ids and bits as the definition", async () => {
    const kernels = wasmLogits(await Bank.open());
    const rows = fc.array(value, { minLength: 1, maxLength: 70 });
    fc.assert(
      fc.property(rows, fc.constantFrom(0.1, 0.7, 1, 1e-300, 1e30), (row, temperature) => {
        const logits = Float32Array.from(row);
        const id = scalarLogits.largest(logits);
        expect(kernels.largest(logits)).toBe(id);
        const weights = kernels.weights(logits, logits[id], temperature);
        expect(compareFloats(weights, scalarLogits.weights(logits, logits[id], temperature))).toBeUndefined();
      }),
      { seed: SEED, numRuns: 500 },
    );
    for (let at = 0; at < 9; at++) {
      const logits = new Float32Array(9).fill(1);
      logits[at] = Number.NaN;
      expect(kernels.largest(logits)).toBe(-1);
      logits[at] = 2;
      expect(kernels.largest(logits)).toBe(at);
    }
  });
});
