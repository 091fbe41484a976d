import { describe, expect, test } from "vitest";
import { chunkTokens, klDivergence, measurePerplexity, tensorError, tokenLosses } from "../src/measure.js";

/** A model whose next token is always the last one plus one, with a known margin. */
const counting = {
  vocabulary: 4,
  async logits(tokens: readonly number[]) {
    const rows = new Float32Array(tokens.length * 4);
    tokens.forEach((token, t) => {
      rows[t * 4 + ((token + 1) % 4)] = 2;
    });
    return rows;
  },
};

describe("chunks", () => {
  test("BOS in front of each, the last one short, single tokens without BOS dropped", () => {
    expect(chunkTokens([5, 6, 7], 1, { chunkTokens: 2 })).toEqual([
      [1, 5, 6],
      [1, 7],
    ]);
    expect(chunkTokens([5, 6, 7], null, { chunkTokens: 2 })).toEqual([[5, 6]]);
    expect(chunkTokens([5, 6, 7, 8, 9], 1, { chunkTokens: 2, maxChunks: 1 })).toHaveLength(1);
    expect(() => chunkTokens([], 1)).toThrowError(expect.objectContaining({ tag: "prompt/empty" }));
    expect(() => chunkTokens([1, 2], 1, { chunkTokens: 1 })).toThrowError(
      expect.objectContaining({ tag: "option/invalid" }),
    );
  });
});

describe("perplexity", () => {
  test("losses are -log softmax of the next token", async () => {
    const chunk = [0, 1, 3];
    const losses = tokenLosses(await counting.logits(chunk), chunk, 4);
    const normalizer = Math.log(Math.exp(2) + 3);
    expect(losses[0]).toBeCloseTo(normalizer - 2, 14);
    expect(losses[1]).toBeCloseTo(normalizer, 14);
  });

  test("both statistics, by hand", async () => {
    const chunks = [
      [0, 1, 2, 3],
      [0, 2],
    ];
    const result = await measurePerplexity(counting, chunks);
    const hit = Math.log(Math.exp(2) + 3) - 2;
    const miss = hit + 2;
    expect(result.predictions).toBe(4);
    expect(result.meanOfChunks).toBeCloseTo((Math.exp(hit) + Math.exp(miss)) / 2, 12);
    expect(result.spread).toBeCloseTo((Math.exp(miss) - Math.exp(hit)) / 2, 12);
    const mean = (3 * hit + miss) / 4;
    expect(result.tokenWeighted).toBeCloseTo(Math.exp(mean), 12);
    const variance = (3 * (hit - mean) ** 2 + (miss - mean) ** 2) / 4;
    expect(result.standardError).toBeCloseTo(Math.exp(mean) * Math.sqrt(variance / 3), 12);
  });

  test("stops between chunks when aborted", async () => {
    const signal = AbortSignal.abort();
    await expect(measurePerplexity(counting, [[0, 1]], { signal })).rejects.toMatchObject({ tag: "aborted" });
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
