/**
 * Measuring what quantization cost. All logarithms and exponentials are math.ts's, so a figure is the same number in
 * every runtime.
 */

import { checkAborted, IsqError } from "./errors.js";
import { exp64, log64 } from "./math.js";

/** What measuring needs of a model: logits of a token sequence that starts an empty context. */
export interface Measurable {
  readonly vocabulary: number;
  /** Binary32 logits, [tokens × vocabulary]. */
  logits(tokens: readonly number[], options?: { signal?: AbortSignal }): Promise<Float32Array>;
}

/** One window of text: `tokens` includes the BOS in front, so `predictions` is one less. */
export interface ChunkResult {
  readonly index: number;
  readonly predictions: number;
  /** Mean negative log likelihood, nats per token. */
  readonly nll: number;
}

export interface PerplexityResult {
  readonly chunks: readonly ChunkResult[];
  /** Tokens predicted, all chunks together. */
  readonly predictions: number;
  /** mistral.rs's statistic: mean of the chunks' perplexities, ± their population standard deviation (a spread). */
  readonly meanOfChunks: number;
  readonly spread: number;
  /** exp of the mean negative log likelihood over all tokens, ± its standard error. */
  readonly tokenWeighted: number;
  readonly standardError: number;
}

export interface ChunkOptions {
  /** Tokens per chunk before the BOS is put in front; 1024 as mistral.rs has it. */
  readonly chunkTokens?: number;
  /** Measure only this many chunks from the start. */
  readonly maxChunks?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number, chunk: ChunkResult) => void;
}

/** Cuts token ids into chunks, each with the BOS in front. Throws `prompt/empty` when there is nothing to predict. */
export function chunkTokens(
  ids: readonly number[],
  bos: number | null,
  { chunkTokens = 1024, maxChunks = Number.POSITIVE_INFINITY }: ChunkOptions = {},
): number[][] {
  if (!Number.isSafeInteger(chunkTokens) || chunkTokens < 2) {
    throw new IsqError("option/invalid", `a chunk must have at least 2 tokens, not ${chunkTokens}`, {
      field: "chunkTokens",
      value: chunkTokens,
      limit: 2,
    });
  }
  const chunks: number[][] = [];
  for (let start = 0; start < ids.length && chunks.length < maxChunks; start += chunkTokens) {
    const chunk = [...(bos === null ? [] : [bos]), ...ids.slice(start, start + chunkTokens)];
    if (chunk.length >= 2) chunks.push(chunk);
  }
  if (chunks.length === 0) {
    throw new IsqError("prompt/empty", "the text has no token to predict", {
      field: "text",
      value: ids.length,
    });
  }
  return chunks;
}

/** log Σ exp of one row of logits, binary64. */
export function logSumExp(logits: Float32Array, start: number, count: number): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let i = start; i < start + count; i++) max = Math.max(max, logits[i]);
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += exp64(logits[i] - max);
  return max + log64(sum);
}

/** Negative log likelihood, in nats, of each token of `chunk` after the first, under the logits of the ones before it. */
export function tokenLosses(
  logits: Float32Array,
  chunk: readonly number[],
  vocabulary: number,
): Float64Array {
  const losses = new Float64Array(chunk.length - 1);
  for (let t = 0; t < losses.length; t++) {
    const row = t * vocabulary;
    losses[t] = logSumExp(logits, row, vocabulary) - logits[row + chunk[t + 1]];
  }
  return losses;
}

/** Perplexity of chunks made by {@link chunkTokens}; each starts an empty context. */
export async function measurePerplexity(
  model: Measurable,
  chunks: readonly (readonly number[])[],
  { signal, onProgress }: ChunkOptions = {},
): Promise<PerplexityResult> {
  const results: ChunkResult[] = [];
  const losses: number[] = [];
  for (const chunk of chunks) {
    checkAborted(signal);
    const own = tokenLosses(await model.logits(chunk, signal ? { signal } : {}), chunk, model.vocabulary);
    losses.push(...own);
    const nll = mean(own);
    const result = { index: results.length, predictions: own.length, nll };
    results.push(result);
    onProgress?.(results.length, chunks.length, result);
  }
  return summarizePerplexity(results, losses);
}

/** Both statistics of measured chunks; `losses` are those of all their tokens. */
export function summarizePerplexity(
  chunks: readonly ChunkResult[],
  losses: readonly number[],
): PerplexityResult {
  const perplexities = chunks.map((chunk) => exp64(chunk.nll));
  const meanOfChunks = mean(perplexities);
  const nll = mean(losses);
  const variance = mean(losses.map((loss) => (loss - nll) ** 2));
  const tokenWeighted = exp64(nll);
  return {
    chunks,
    predictions: losses.length,
    meanOfChunks,
    spread: Math.sqrt(mean(perplexities.map((p) => (p - meanOfChunks) ** 2))),
    tokenWeighted,
    // The delta method: d exp(nll) = exp(nll) · d nll.
    standardError: tokenWeighted * Math.sqrt(variance / Math.max(1, losses.length - 1)),
  };
}

function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}

/**
 * Kullback-Leibler divergence KL(reference ‖ other) of each row of logits, in nats, and whether both rank the same token
 * first. Both arrays are [rows × vocabulary].
 */
export function klDivergence(
  reference: Float32Array,
  other: Float32Array,
  vocabulary: number,
): { divergence: Float64Array; sameTop: number } {
  if (reference.length !== other.length || reference.length % vocabulary !== 0) {
    throw new IsqError("shape/mismatch", "the two sets of logits differ in shape", {
      field: "logits",
      value: other.length,
      limit: reference.length,
    });
  }
  const rows = reference.length / vocabulary;
  const divergence = new Float64Array(rows);
  let sameTop = 0;
  for (let r = 0; r < rows; r++) {
    const start = r * vocabulary;
    const p = logSumExp(reference, start, vocabulary);
    const q = logSumExp(other, start, vocabulary);
    let sum = 0;
    for (let i = start; i < start + vocabulary; i++) {
      const logP = reference[i] - p;
      sum += exp64(logP) * (logP - (other[i] - q));
    }
    divergence[r] = Math.max(0, sum); // rounding may leave -1e-17 for equal rows
    if (topOf(reference, start, vocabulary) === topOf(other, start, vocabulary)) sameTop++;
  }
  return { divergence, sameTop };
}

/** Index of the largest of `count` logits from `start`, relative to `start`; the first of equal ones. */
export function topOf(logits: Float32Array, start: number, count: number): number {
  let top = 0;
  for (let i = 1; i < count; i++) if (logits[start + i] > logits[start + top]) top = i;
  return top;
}

/** How far decoded weights are from their source. */
export interface TensorError {
  /** Root mean square error. */
  readonly rmse: number;
  /** Signal to noise ratio in decibels: 10·log10(Σ x² / Σ e²); Infinity for no error. */
  readonly snr: number;
  /** Largest |error|. */
  readonly max: number;
  /** The block with the largest root mean square error: where it starts, and that error. */
  readonly worstBlock: { readonly row: number; readonly column: number; readonly rmse: number };
  /** Square root of Σ i·e² / Σ i, i being the importance of the column; present when importance was given. */
  readonly weightedRmse?: number;
}

/** How the elements of a tensor belong together. */
export interface ErrorLayout {
  /** Elements of a row; all when absent. */
  readonly columns?: number;
  /** Columns of a block; the last one of a row may be short. {@link LOOSE_BLOCK} when absent. */
  readonly blockColumns?: number;
  /** One value per column. */
  readonly importance?: Float32Array;
}

/** Columns that count as a block where the type has no blocks along rows. */
export const LOOSE_BLOCK = 64;

/** Error of `decoded` against `values`, of equal length. Sums are binary64, block by block. */
export function tensorError(
  values: Float32Array,
  decoded: Float32Array,
  { columns = values.length, blockColumns = LOOSE_BLOCK, importance }: ErrorLayout = {},
): TensorError {
  let signal = 0;
  let noise = 0;
  let max = 0;
  let weighted = 0;
  let worst = { row: 0, column: 0, rmse: 0 };
  for (let start = 0, row = 0; start < values.length; start += columns, row++) {
    for (let column = 0; column < columns; column += blockColumns) {
      const end = Math.min(columns, column + blockColumns);
      let blockNoise = 0;
      for (let c = column; c < end; c++) {
        const error = decoded[start + c] - values[start + c];
        signal += values[start + c] * values[start + c];
        blockNoise += error * error;
        max = Math.max(max, Math.abs(error));
        if (importance) weighted += importance[c] * error * error;
      }
      noise += blockNoise;
      const rmse = Math.sqrt(blockNoise / (end - column));
      if (rmse > worst.rmse) worst = { row, column, rmse };
    }
  }
  const rows = values.length / columns;
  const total = importance ? rows * importance.reduce((sum, value) => sum + value, 0) : 0;
  return {
    rmse: values.length === 0 ? 0 : Math.sqrt(noise / values.length),
    snr: noise === 0 ? Number.POSITIVE_INFINITY : (10 * log64(signal / noise)) / log64(10),
    max,
    worstBlock: worst,
    ...(importance && { weightedRmse: total === 0 ? 0 : Math.sqrt(weighted / total) }),
  };
}
