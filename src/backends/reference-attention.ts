/** Attention of the reference over a cache in blocks. */

import type { OpOf } from "./interpreter.js";
import { type Batch, CACHE_BLOCK } from "./program.js";
import { capRange, dot, dotFour, softmax } from "./reference-kernels.js";

const f32 = Math.fround;

/** Keys and values of one layer by cache block, CACHE_BLOCK positions each; a block is made when first written. */
export interface CacheLayer {
  /** Elements of one position. */
  readonly keyWidth: number;
  readonly valueWidth: number;
  readonly keys: Float32Array[];
  readonly values: Float32Array[];
}

const scratch = { scores: new Float32Array(0) };

/** Writes the keys and values of one batch row to its place in the cache. */
export function storeRow(
  { keyWidth, valueWidth, keys, values }: CacheLayer,
  batch: Batch,
  row: number,
  k: Float32Array,
  v: Float32Array,
): void {
  const position = batch.positions[row];
  const block = batch.blockTables[batch.sequences[row]][Math.floor(position / CACHE_BLOCK)];
  const place = position % CACHE_BLOCK;
  keys[block] ??= new Float32Array(CACHE_BLOCK * keyWidth);
  values[block] ??= new Float32Array(CACHE_BLOCK * valueWidth);
  keys[block].set(k.subarray(row * keyWidth, (row + 1) * keyWidth), place * keyWidth);
  values[block].set(v.subarray(row * valueWidth, (row + 1) * valueWidth), place * valueWidth);
}

/** One query head of one row; see `attention` in ops.ts. */
export function attendHead(
  op: OpOf<"attention">,
  layer: CacheLayer,
  batch: Batch,
  row: number,
  head: number,
  q: Float32Array,
  out: Float32Array,
): void {
  const { heads, kvHeads, headWidth, valueWidth, window } = op;
  const kvHead = Math.floor((head * kvHeads) / heads);
  const position = batch.positions[row];
  const table = batch.blockTables[batch.sequences[row]];
  const first = window === null ? 0 : Math.max(0, position - window + 1);
  const count = position - first + 1;
  if (scratch.scores.length < count) scratch.scores = new Float32Array(2 * count);
  const scores = scratch.scores;
  const query = (row * heads + head) * headWidth;
  const { keyWidth, valueWidth: valueStride } = layer;
  for (let t = 0, run = 0; t < count; t += run) {
    const place = (first + t) % CACHE_BLOCK;
    run = Math.min(CACHE_BLOCK - place, count - t);
    const keys = layer.keys[table[Math.floor((first + t) / CACHE_BLOCK)]];
    scoreRun(q, query, keys, place * keyWidth + kvHead * headWidth, keyWidth, headWidth, scores, t, run);
  }
  scaleScores(scores, count, op);
  softmax(scores, count);
  const start = (row * heads + head) * valueWidth;
  out.fill(0, start, start + valueWidth);
  for (let t = 0, run = 0; t < count; t += run) {
    const place = (first + t) % CACHE_BLOCK;
    run = Math.min(CACHE_BLOCK - place, count - t);
    const values = layer.values[table[Math.floor((first + t) / CACHE_BLOCK)]];
    const at = place * valueStride + kvHead * valueWidth;
    mixRun(scores, t, run, values, at, valueStride, out, start, valueWidth);
  }
}

function scaleScores(scores: Float32Array, count: number, op: OpOf<"attention">): void {
  const scale = f32(op.scale);
  for (let t = 0; t < count; t++) scores[t] = f32(scores[t] * scale);
  if (op.softcap !== undefined) capRange(scores, scores, 0, count, op.softcap);
}

/** scores[t …] = dot(q, key) for `run` keys of one block, `stride` apart. */
function scoreRun(
  q: Float32Array,
  start: number,
  keys: Float32Array,
  at: number,
  stride: number,
  headWidth: number,
  scores: Float32Array,
  t: number,
  run: number,
): void {
  let i = 0;
  for (; i + 4 <= run; i += 4) {
    dotFour(q, start, keys, at + i * stride, stride, headWidth, scores, t + i, 1);
  }
  for (; i < run; i++) scores[t + i] = dot(q, start, keys, at + i * stride, headWidth);
}

/** Adds Σ weights[t …]·value to `out`, in t order, for `run` values of one block, `stride` apart. */
function mixRun(
  weights: Float32Array,
  t: number,
  run: number,
  values: Float32Array,
  at: number,
  stride: number,
  out: Float32Array,
  start: number,
  headWidth: number,
): void {
  for (let i = 0; i < headWidth; i++) {
    let sum = out[start + i];
    for (let n = 0; n < run; n++) sum = f32(sum + f32(weights[t + n] * values[at + n * stride + i]));
    out[start + i] = sum;
  }
}
