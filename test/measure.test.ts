import { describe, expect, test } from "vitest";
import { type Chunk, chunkTokens } from "../src/chunks.js";
import { klDivergence, measureDivergence, quantile } from "../src/divergence.js";
import { IsqError } from "../src/errors.js";
import { type Measurable, measurePerplexity, tokenLosses } from "../src/measure.js";
import { tensorError } from "../src/tensor-error.js";

/** A model whose next token is always the last one plus `step`, with a known margin; logits come `rows` at a time. */
const counting = (step = 1, rows = 3) => {
  const log: number[] = [];
  const logits = (tokens: readonly number[]) => {
    const all = new Float32Array(tokens.length * 4);
    tokens.forEach((token, t) => {
      all[t * 4 + ((token + step) % 4)] = 2;
    });
    return all;
  };
  const model: Measurable = {
    vocabulary: 4,
    async visitLogits(tokens, visit, options) {
      const all = logits(tokens);
      for (let row = 0; row < tokens.length; row += rows) {
        if (options?.signal?.aborted) throw new IsqError("aborted", "stopped");
        log.push(row);
        await visit(all.subarray(4 * row, 4 * (row + rows)), row);
      }
    },
  };
  return { ...model, logits, log };
};
const whole = (tokens: readonly number[]): Chunk => ({ tokens, scoredFrom: 0 });

describe("chunks", () => {
  const tokensOf = (...args: Parameters<typeof chunkTokens>) =>
    chunkTokens(...args).map(({ tokens }) => tokens);

  test("BOS in front of each, the last one short, single tokens without BOS dropped", () => {
    expect(tokensOf([5, 6, 7], 1, { chunkTokens: 2 })).toEqual([
      [1, 5, 6],
      [1, 7],
    ]);
    expect(tokensOf([5, 6, 7], null, { chunkTokens: 2 })).toEqual([[5, 6]]);
    expect(chunkTokens([5, 6, 7, 8, 9], 1, { chunkTokens: 2, maxChunks: 1 })).toHaveLength(1);
    expect(() => chunkTokens([], 1)).toThrowError(expect.objectContaining({ tag: "prompt/empty" }));
  });

  test.each([
    { chunkTokens: 1 },
    { chunkTokens: 4, stride: 0 },
    { chunkTokens: 4, stride: 5 },
    { stride: 1.5 },
  ])("refuses %o", (options) => {
    expect(() => chunkTokens([1, 2], 1, options)).toThrowError(
      expect.objectContaining({ tag: "option/invalid" }),
    );
  });

  test.each([[1], [null]])(
    "with a stride every token is predicted once, with enough before it (BOS %s)",
    (bos) => {
      for (const [length, size, stride] of [
        [20, 8, 3],
        [21, 8, 3],
        [9, 8, 1],
        [8, 8, 2],
        [7, 8, 2],
        [24, 8, 8],
        [5, 2, 1],
      ]) {
        const ids = Array.from({ length }, (_, i) => 100 + i);
        const chunks = chunkTokens(ids, bos, { chunkTokens: size, stride });
        const predicted = chunks.flatMap(({ tokens, scoredFrom }) => tokens.slice(scoredFrom + 1));
        const first = bos === null ? 1 : 0; // nothing predicts the very first
        const gaps = bos === null && stride === size; // windows that do not overlap: the first token of each
        expect(predicted).toEqual(ids.filter((_, i) => i >= first && !(gaps && i % size === 0)));
        for (const { tokens, scoredFrom } of chunks.slice(1)) {
          expect(tokens.length).toBeLessThanOrEqual(size + 1);
          if (stride < size) expect(scoredFrom + 1 - (bos === null ? 0 : 1)).toBe(size - stride);
        }
      }
    },
  );
});

describe("perplexity", () => {
  test("losses are -log softmax of the next token", () => {
    const tokens = [0, 1, 3];
    const losses = tokenLosses(counting().logits(tokens), tokens, 4);
    const normalizer = Math.log(Math.exp(2) + 3);
    expect(losses[0]).toBeCloseTo(normalizer - 2, 14);
    expect(losses[1]).toBeCloseTo(normalizer, 14);
  });

  test("both statistics, by hand, whatever pieces the logits come in", async () => {
    const chunks = [whole([0, 1, 2, 3]), whole([0, 2])];
    const hit = Math.log(Math.exp(2) + 3) - 2;
    const miss = hit + 2;
    for (const rows of [1, 2, 3, 9]) {
      const result = await measurePerplexity(counting(1, rows), chunks);
      expect(result.predictions).toBe(4);
      expect(result.chunks.map(({ predictions }) => predictions)).toEqual([3, 1]);
      expect(result.meanOfChunks).toBeCloseTo((Math.exp(hit) + Math.exp(miss)) / 2, 12);
      expect(result.spread).toBeCloseTo((Math.exp(miss) - Math.exp(hit)) / 2, 12);
      const mean = (3 * hit + miss) / 4;
      expect(result.tokenWeighted).toBeCloseTo(Math.exp(mean), 12);
      const variance = (3 * (hit - mean) ** 2 + (miss - mean) ** 2) / 4;
      expect(result.standardError).toBeCloseTo(Math.exp(mean) * Math.sqrt(variance / 3), 12);
    }
  });

  test("counts from where a chunk is scored", async () => {
    const chunk = { tokens: [0, 3, 3, 0, 1], scoredFrom: 2 }; // misses before, hits from there on
    const { predictions, tokenWeighted } = await measurePerplexity(counting(1, 2), [chunk]);
    expect(predictions).toBe(2);
    expect(Math.log(tokenWeighted)).toBeCloseTo(Math.log(Math.exp(2) + 3) - 2, 12);
  });

  test("stops between chunks when aborted", async () => {
    const signal = AbortSignal.abort();
    await expect(measurePerplexity(counting(), [whole([0, 1])], { signal })).rejects.toMatchObject({
      tag: "aborted",
    });
  });
});

describe("divergence and error", () => {
  test("KL of a known pair, zero for equals", () => {
    const p = Float32Array.from([0, Math.log(3)]);
    const q = Float32Array.from([0, 0]);
    const { divergence, sameTop } = klDivergence(p, q, 2);
    expect(divergence[0]).toBeCloseTo(0.25 * Math.log(0.5) + 0.75 * Math.log(1.5), 6);
    expect(sameTop).toBe(0);
    expect(klDivergence(p, p, 2)).toEqual({ divergence: Float64Array.of(0), sameTop: 1 });
    expect(() => klDivergence(p, q.subarray(1), 2)).toThrowError(
      expect.objectContaining({ tag: "shape/mismatch" }),
    );
  });

  test("over a text, models side by side: statistics by hand, whatever pieces the logits come in", async () => {
    const chunks = [whole([0, 1, 2, 3, 1]), { tokens: [2, 2, 2], scoredFrom: 1 }];
    // The models agree on nothing: each prediction has the same divergence.
    const [large, small] = [Math.exp(2), 1].map((value) => value / (Math.exp(2) + 3));
    for (const [a, b] of [
      [3, 3],
      [1, 4],
      [4, 1],
      [2, 3],
    ]) {
      const [reference, model] = [counting(1, a), counting(2, b)];
      const result = await measureDivergence(reference, model, chunks);
      expect(result).toMatchObject({ predictions: 5, sameTop: 0 });
      for (const figure of ["mean", "median", "p99", "p999", "max"] as const) {
        expect(result[figure], figure).toBeCloseTo(2 * (large - small), 6);
      }
      expect(result.chunks).toHaveLength(2);
      expect(result.reference).toEqual(await measurePerplexity(counting(1), chunks));
      expect(result.model).toEqual(await measurePerplexity(counting(2), chunks));
    }
    const same = await measureDivergence(counting(), counting(), chunks);
    expect(same).toMatchObject({ mean: 0, max: 0, sameTop: 1 });
  });

  test("neither model runs ahead of the other, and a failure of one ends both", async () => {
    const [reference, model] = [counting(1, 2), counting(1, 2)];
    let lead = 0;
    const watched: Measurable = {
      ...model,
      visitLogits: (tokens, visit, options) =>
        model.visitLogits(
          tokens,
          async (logits, first) => {
            lead = Math.max(lead, reference.log.at(-1)! - first);
            await new Promise((resolve) => setTimeout(resolve, 1));
            return visit(logits, first);
          },
          options,
        ),
    };
    const tokens = Array.from({ length: 20 }, (_, i) => i % 4);
    await measureDivergence(reference, watched, [whole(tokens)]);
    expect(lead).toBeLessThanOrEqual(2);
    const broken: Measurable = {
      vocabulary: 4,
      visitLogits: async (_tokens, visit) => {
        await visit(new Float32Array(4), 0);
        throw new IsqError("backend/worker", "gone");
      },
    };
    for (const pair of [
      [counting(), broken],
      [broken, counting()],
    ]) {
      await expect(measureDivergence(pair[0], pair[1], [whole(tokens)])).rejects.toMatchObject({
        tag: "backend/worker",
      });
    }
    const other = { ...counting(), vocabulary: 5 };
    await expect(measureDivergence(counting(), other, [])).rejects.toMatchObject({ tag: "shape/mismatch" });
  });

  test("quantiles are values that occurred", () => {
    const sorted = Float64Array.from({ length: 1000 }, (_, i) => i + 1);
    expect([0.5, 0.99, 0.999, 1, 0].map((q) => quantile(sorted, q))).toEqual([500, 990, 999, 1000, 1]);
    expect(quantile(Float64Array.of(7), 0.5)).toBe(7);
  });

  test("RMSE, SNR and the largest error", () => {
    const error = tensorError(Float32Array.of(3, 4), Float32Array.of(3, 3));
    expect(error.rmse).toBeCloseTo(Math.SQRT1_2, 14);
    expect(error.snr).toBeCloseTo(10 * Math.log10(25), 12);
    expect(error.max).toBe(1);
    const none = tensorError(Float32Array.of(1), Float32Array.of(1));
    expect(none).toEqual({ rmse: 0, snr: Infinity, max: 0, worstBlock: { row: 0, column: 0, rmse: 0 } });
  });

  test("the worst block, also a short one at the end of a row, and the error by importance", () => {
    const values = new Float32Array(10);
    const decoded = Float32Array.of(0, 1, 0, 0, 0, /**/ 0, 0, 1, 1, 2);
    const importance = Float32Array.of(4, 1, 0, 0, 3);
    const error = tensorError(values, decoded, { columns: 5, blockColumns: 2, importance });
    expect(error.worstBlock).toEqual({ row: 1, column: 4, rmse: 2 });
    // Σ i·e² = 1·1 + 0·1 + 0·1 + 3·4, Σ i = 2 · 8
    expect(error.weightedRmse).toBeCloseTo(Math.sqrt(13 / 16), 14);
    expect(error.rmse).toBeCloseTo(Math.sqrt(0.7), 14);
    expect(tensorError(values, decoded, { columns: 5, importance: new Float32Array(5) }).weightedRmse).toBe(
      0,
    );
  });
});
