/**
 * Measuring what quantization cost. All logarithms and exponentials are math.ts's, so a figure is the same number in
 * every runtime.
 */

import type { Chunk } from "./chunks.js";
import { checkAborted } from "./errors.js";
import { exp64, log64 } from "./math.js";

/** What measuring needs of a model: logits of a token sequence that starts an empty context. */
export interface Measurable {
  readonly vocabulary: number;
  /**
   * Binary32 logits after every token, some rows at a time: [rows × vocabulary], valid during the call, and the index of their
   * first token. The next rows wait for the promise that `visit` returns, if it does.
   */
  visitLogits(
    tokens: readonly number[],
    visit: (logits: Float32Array, firstRow: number) => unknown,
    options?: { signal?: AbortSignal },
  ): Promise<void>;
}

/** One window of text. */
export interface ChunkResult {
  readonly index: number;
  /** Tokens of it that count as predicted. */
  readonly predictions: number;
  /** Mean negative log likelihood, nats per token. */
  readonly nll: number;
}

/** Both statistics of perplexity over the chunks of a text. Log likelihoods are in nats. */
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

/** How a measurement is stopped and watched. */
export interface MeasureOptions {
  readonly signal?: AbortSignal;
  /** Called after every chunk. */
  readonly onProgress?: (done: number, total: number, chunk: ChunkResult) => void;
}

/** log Σ exp of one row of logits, binary64. */
export function logSumExp(logits: Float32Array, start: number, count: number): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let i = start; i < start + count; i++) max = Math.max(max, logits[i]);
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += exp64(logits[i] - max);
  return max + log64(sum);
}

/** Negative log likelihood, in nats, of each token after the first, under the logits of the ones before it. */
export function tokenLosses(
  logits: Float32Array,
  tokens: readonly number[],
  vocabulary: number,
): Float64Array {
  const losses = new Float64Array(tokens.length - 1);
  for (let t = 0; t < losses.length; t++) {
    const row = t * vocabulary;
    losses[t] = logSumExp(logits, row, vocabulary) - logits[row + tokens[t + 1]];
  }
  return losses;
}

/** Perplexity of chunks made by chunkTokens; each starts an empty context. Throws what the model throws, and `aborted`. */
export async function measurePerplexity(
  model: Measurable,
  chunks: readonly Chunk[],
  { signal, onProgress }: MeasureOptions = {},
): Promise<PerplexityResult> {
  const losses = createLosses();
  for (const [index, chunk] of chunks.entries()) {
    checkAborted(signal);
    const visit = (logits: Float32Array, first: number) => losses.add(chunk, logits, first, model.vocabulary);
    await model.visitLogits(chunk.tokens, visit, signal ? { signal } : {});
    const result = losses.endChunk();
    onProgress?.(index + 1, chunks.length, result);
  }
  return losses.finish();
}

/** Losses of scored predictions, chunk by chunk. */
export interface Losses {
  /** Takes rows of a chunk's logits, in order. */
  add(chunk: Chunk, logits: Float32Array, firstRow: number, vocabulary: number): void;
  endChunk(): ChunkResult;
  finish(): PerplexityResult;
}

export function createLosses(): Losses {
  const losses: number[] = [];
  const chunks: ChunkResult[] = [];
  let start = 0;
  return {
    add(chunk, logits, firstRow, vocabulary) {
      const rows = scoredRows(chunk, firstRow, logits.length / vocabulary);
      for (let row = rows.first; row < rows.last; row++) {
        const at = (row - firstRow) * vocabulary;
        losses.push(logSumExp(logits, at, vocabulary) - logits[at + chunk.tokens[row + 1]]);
      }
    },
    endChunk() {
      const own = losses.slice(start);
      start = losses.length;
      const result = { index: chunks.length, predictions: own.length, nll: mean(own) };
      chunks.push(result);
      return result;
    },
    finish: () => summarizePerplexity(chunks, losses),
  };
}

/** Of `count` rows from `firstRow` on: those whose next token counts as predicted. */
export function scoredRows({ tokens, scoredFrom }: Chunk, firstRow: number, count: number) {
  const first = Math.max(firstRow, scoredFrom);
  return { first, last: Math.max(first, Math.min(firstRow + count, tokens.length - 1)) };
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

export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}
