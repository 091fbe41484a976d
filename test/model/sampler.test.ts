import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Bank } from "../../src/backends/wasm-bank.js";
import { wasmLogits } from "../../src/backends/wasm-logits.js";
import { isIsqError } from "../../src/errors.js";
import { drawToken } from "../../src/model/draw.js";
import { scalarLogits } from "../../src/model/logits.js";
import { logprobsOf } from "../../src/model/logprobs.js";
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

  test("min-p keeps what is at least this times as likely as the likeliest", () => {
    // At temperature 1 logit 2 has e^-1 = 0.368 of the weight of logit 3, logit 1 e^-2 = 0.135.
    expect(new Set(draw({ temperature: 1, minP: 0.36 }))).toEqual(new Set([1, 2, 4]));
    expect(new Set(draw({ temperature: 1, minP: 0.37 }))).toEqual(new Set([1, 4]));
    expect(new Set(draw({ temperature: 1, minP: 0.13 }))).toEqual(new Set([0, 1, 2, 4]));
    expect(new Set(draw({ temperature: 1, minP: 1 }))).toEqual(new Set([1, 4]));
  });

  test("draws what a sort of the whole vocabulary would", () => {
    /** The definition, with every token ranked. */
    const plain = (logits: Float32Array, weights: Float32Array, options: SamplerOptions, point: number) => {
      const { topK = logits.length, topP = 1, minP = 0 } = options;
      const sum = (ids: readonly number[]) => ids.reduce((total, id) => total + weights[id], 0);
      const all = Array.from(logits, (_, id) => id);
      let kept = all.toSorted((a, b) => logits[b] - logits[a] || a - b).slice(0, topK);
      if (topP < 1) {
        const enough = topP * sum(topK < logits.length ? kept : all);
        let count = 0;
        for (let total = 0; count < kept.length && total < enough; count++) total += weights[kept[count]];
        kept = kept.slice(0, Math.max(1, count));
      }
      kept = kept.filter((id) => weights[id] >= minP);
      let left = point * sum(kept);
      for (const id of kept) {
        left -= weights[id];
        if (left < 0) return id;
      }
      return kept.findLast((id) => weights[id] > 0);
    };
    const logit = fc.oneof(
      fc.float({ min: -20, max: 20, noNaN: true }),
      fc.constantFrom(-200, 3, 3.5, Number.NEGATIVE_INFINITY),
    );
    const options = fc.record({
      topK: fc.option(fc.integer({ min: 1, max: 80 }), { nil: undefined }),
      topP: fc.option(fc.constantFrom(1e-6, 0.3, 0.9, 0.999999, 1), { nil: undefined }),
      minP: fc.option(fc.constantFrom(0, 1e-6, 0.05, 0.5, 1), { nil: undefined }),
    });
    const row = fc.array(logit, { minLength: 1, maxLength: 70 });
    fc.assert(
      fc.property(
        row,
        options,
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (values, cut, point) => {
          const logits = Float32Array.from(values);
          const most = logits[pickLargest(logits)];
          const weights = scalarLogits.weights(logits, most, 1);
          const truncation = { topK: cut.topK, topP: cut.topP, minP: cut.minP };
          const { topK = values.length, topP = 1, minP = 0 } = cut;
          fc.pre(topK < values.length || topP < 1 || minP > 0); // without truncation ids are not ranked
          const chosen = drawToken(logits, weights, truncation, point);
          const given = Object.fromEntries(Object.entries(cut).filter(([, value]) => value !== undefined));
          expect(chosen).toBe(plain(logits, weights, given, point));
        },
      ),
      { seed: SEED, numRuns: 2000 },
    );
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
      ["minP", { minP: -0.1 }],
      ["minP", { minP: 1.1 }],
      ["repetitionPenalty", { repetitionPenalty: 0 }],
      ["repetitionPenalty", { repetitionPenalty: Number.POSITIVE_INFINITY }],
      ["frequencyPenalty", { frequencyPenalty: Number.NaN }],
      ["presencePenalty", { presencePenalty: Number.NEGATIVE_INFINITY }],
      ["logitBias", { logitBias: { 3: Number.NaN } }],
      ["logitBias", { logitBias: { [-1]: 1 } }],
      ["logitBias", { logitBias: { x: 1 } as Record<number, number> }],
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

describe("penalties and bias", () => {
  const pick = (options: SamplerOptions, count: number, prompt: number[] = []) => {
    const sampler = createSampler(options, scalarLogits, prompt);
    return Array.from({ length: count }, () => sampler(LOGITS));
  };

  test("the presence penalty counts once, the frequency penalty each time; neither sees the prompt", () => {
    // 1 and 4 have logit 3, 2 has 2, 0 has 1.
    expect(pick({ presencePenalty: 0.5 }, 4, [1, 4])).toEqual([1, 4, 1, 1]);
    expect(pick({ frequencyPenalty: 0.5 }, 7)).toEqual([1, 4, 1, 4, 1, 2, 4]);
    expect(pick({ frequencyPenalty: -1 }, 3)).toEqual([1, 1, 1]);
  });

  test("the repetition penalty divides positive and multiplies negative logits, of the prompt too", () => {
    expect(pick({ repetitionPenalty: 1.6 }, 4, [1])).toEqual([4, 2, 1, 1]);
    const sampler = createSampler({ repetitionPenalty: 2 }, scalarLogits, [0]);
    expect(sampler(Float32Array.of(-1, -1.5))).toBe(1); // -2 against -1.5
    expect(sampler(Float32Array.of(-1, -1.5))).toBe(0); // -2 against -3
  });

  test("the bias comes last, bans and forces", () => {
    expect(pick({ logitBias: { 1: -100, 4: -100 } }, 2)).toEqual([2, 2]);
    expect(pick({ logitBias: { 3: 100 }, frequencyPenalty: 2 }, 3)).toEqual([3, 3, 3]);
    expect(pick({ logitBias: { 1: -0, 99: 5 } }, 1)).toEqual([1]);
  });

  test("leaves the logits as they are", () => {
    const before = LOGITS.slice();
    pick({ logitBias: { 1: -100 }, repetitionPenalty: 2, temperature: 1 }, 3, [2]);
    expect(LOGITS).toEqual(before);
  });
});

describe("log probabilities", () => {
  test("are those of the softmax; the likeliest first, lower ids first among equals", () => {
    const { token, logprob, top } = logprobsOf(LOGITS, 2, 3);
    const total = Math.log([...LOGITS].reduce((sum, logit) => sum + Math.exp(logit), 0));
    expect(token).toBe(2);
    expect(logprob).toBeCloseTo(2 - total, 12);
    expect(top.map(({ token }) => token)).toEqual([1, 4, 2]);
    expect(top[0].logprob).toBeCloseTo(3 - total, 12);
    expect(logprobsOf(LOGITS, 0, 0).top).toEqual([]);
    const all = logprobsOf(LOGITS, 0, 6).top;
    expect(all.map(({ token }) => token)).toEqual([1, 4, 2, 0, 5, 3]);
    expect(all.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 12);
  });

  test("are -Infinity for what cannot come", () => {
    const { logprob, top } = logprobsOf(Float32Array.of(0, Number.NEGATIVE_INFINITY), 1, 2);
    expect(logprob).toBe(Number.NEGATIVE_INFINITY);
    expect(top[0].logprob).toBe(0);
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
