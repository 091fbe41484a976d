/**
 * How far one model's predictions are from another's, over a text. The two run side by side and their logits meet row by row, so
 * that no more of them is in memory than one step of each.
 */

import type { Chunk } from "./chunks.js";
import { checkAborted, IsqError, isIsqError } from "./errors.js";
import { exp64 } from "./math.js";
import {
  createLosses,
  logSumExp,
  type Measurable,
  type MeasureOptions,
  mean,
  type PerplexityResult,
  scoredRows,
} from "./measure.js";

/** Of KL(reference ‖ model), nats per prediction. Quantiles are values that occurred: of n, the ⌈q·n⌉-th smallest. */
export interface DivergenceResult {
  readonly predictions: number;
  readonly mean: number;
  readonly standardError: number;
  readonly median: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  /** Share of the predictions in which both rank the same token first. */
  readonly sameTop: number;
  /** Means of the chunks. */
  readonly chunks: readonly number[];
  /** Of the same predictions. */
  readonly reference: PerplexityResult;
  readonly model: PerplexityResult;
  /** All of them, ascending. */
  readonly sorted: Float64Array;
}

/**
 * Measures over chunks made by chunkTokens, each of which starts an empty context in both models. Throws `shape/mismatch` for
 * models of different vocabularies, `aborted`, and what the models throw.
 */
export async function measureDivergence(
  reference: Measurable,
  model: Measurable,
  chunks: readonly Chunk[],
  { signal, onProgress }: MeasureOptions = {},
): Promise<DivergenceResult> {
  const { vocabulary } = reference;
  checkSame("vocabulary", vocabulary, model.vocabulary);
  const losses = [createLosses(), createLosses()];
  const divergences: number[] = [];
  const chunkMeans: number[] = [];
  let sameTop = 0;
  for (const [index, chunk] of chunks.entries()) {
    checkAborted(signal);
    const start = divergences.length;
    const visit = (expected: Float32Array, actual: Float32Array, firstRow: number) => {
      losses[0].add(chunk, expected, firstRow, vocabulary);
      losses[1].add(chunk, actual, firstRow, vocabulary);
      const { first, last } = scoredRows(chunk, firstRow, expected.length / vocabulary);
      const [from, to] = [first, last].map((row) => (row - firstRow) * vocabulary);
      const found = klDivergence(expected.subarray(from, to), actual.subarray(from, to), vocabulary);
      divergences.push(...found.divergence);
      sameTop += found.sameTop;
    };
    await visitPairs(reference, model, chunk.tokens, visit, signal);
    chunkMeans.push(mean(divergences.slice(start)));
    losses[0].endChunk();
    const result = losses[1].endChunk();
    onProgress?.(index + 1, chunks.length, result);
  }
  const [referenceResult, modelResult] = losses.map((each) => each.finish());
  const sums = summarize(Float64Array.from(divergences), sameTop);
  return { ...sums, chunks: chunkMeans, reference: referenceResult, model: modelResult };
}

function summarize(divergences: Float64Array, sameTop: number) {
  const predictions = divergences.length;
  const average = mean(divergences);
  const variance = mean(divergences.map((value) => (value - average) ** 2));
  const sorted = divergences.sort();
  return {
    predictions,
    mean: average,
    standardError: Math.sqrt(variance / Math.max(1, predictions - 1)),
    median: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    p999: quantile(sorted, 0.999),
    max: sorted[predictions - 1],
    sameTop: sameTop / predictions,
    sorted,
  };
}

/** The ⌈q·n⌉-th smallest. */
export function quantile(sorted: Float64Array, q: number): number {
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
}

type VisitPairs = (expected: Float32Array, actual: Float32Array, firstRow: number) => void;

/** Rows of one side that the other has not met yet. */
interface Side {
  rows: Float32Array;
  /** Lets the model go on, or ends it with an error. */
  release: (error?: unknown) => void;
}

/** Runs the same tokens through two models and shows both logits of each row, whatever pieces they come in. */
async function visitPairs(
  reference: Measurable,
  model: Measurable,
  tokens: readonly number[],
  visit: VisitPairs,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { vocabulary } = reference;
  const none = new Float32Array(0);
  const sides: Side[] = [0, 1].map(() => ({ rows: none, release() {} }));
  let firstRow = 0;
  const meet = () => {
    const length = Math.min(...sides.map(({ rows }) => rows.length));
    if (length === 0) return;
    visit(sides[0].rows.subarray(0, length), sides[1].rows.subarray(0, length), firstRow);
    firstRow += length / vocabulary;
    for (const side of sides) {
      side.rows = side.rows.subarray(length);
      if (side.rows.length === 0) side.release();
    }
  };
  // When one fails, or the caller aborts, both end: each would wait for the other.
  const stop = new AbortController();
  const end = () => {
    stop.abort(signal?.reason);
    const aborted = new IsqError("aborted", "the work was aborted", { reason: String(signal?.reason) });
    for (const side of sides) side.release(aborted);
  };
  signal?.addEventListener("abort", end);
  const runs = [reference, model].map((each, i) => {
    const wait = (logits: Float32Array) =>
      new Promise<void>((resolve, reject) => {
        const release = (error?: unknown) => (error === undefined ? resolve() : reject(error));
        Object.assign(sides[i], { rows: logits.slice(), release });
        meet();
      });
    return each.visitLogits(tokens, wait, { signal: stop.signal });
  });
  for (const run of runs) run.catch(end);
  const ended = await Promise.allSettled(runs);
  signal?.removeEventListener("abort", end);
  const errors = ended.flatMap((run) => (run.status === "rejected" ? [run.reason] : []));
  if (errors.length > 0) throw errors.find((error) => !isIsqError(error, "aborted")) ?? errors[0];
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
  checkSame("logits", reference.length, other.length);
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

function checkSame(field: string, limit: number, value: number): void {
  if (value === limit) return;
  const message = `the two models differ in ${field}: ${limit} and ${value}`;
  throw new IsqError("shape/mismatch", message, { field, value, limit });
}
