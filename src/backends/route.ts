/** Which experts a row of router logits chooses, and what they weigh: see `Router` in ops.ts. */

import type { Router } from "./program.js";
import { ACTIVATIONS, softmax } from "./reference-kernels.js";

const f32 = Math.fround;

export interface Routed {
  readonly chosen: Int32Array;
  readonly weights: Float32Array;
}

/** Routes one row of logits [experts] to `count` experts. `bias` is the router's, where it has one. */
export function routeRow(
  router: Router,
  logits: Float32Array,
  bias: Float32Array | undefined,
  count: number,
): Routed {
  return router.kind === "sparseMixer"
    ? mixSparsely(logits, count, router.jitter)
    : routeByScores(router, logits, bias, count);
}

function routeByScores(
  { scores: kind, groups, normalize, scale }: Extract<Router, { kind: "scores" }>,
  logits: Float32Array,
  bias: Float32Array | undefined,
  count: number,
): Routed {
  const scores = logits.slice();
  if (kind === "softmax") softmax(scores, scores.length);
  else for (let i = 0; i < scores.length; i++) scores[i] = ACTIVATIONS.sigmoid(scores[i]);
  const choice = bias ? scores.map((score, i) => f32(score + bias[i])) : scores;
  const candidates = groups ? candidatesOf(choice, groups) : new Uint8Array(scores.length).fill(1);
  const chosen = takeLargest(choice, candidates, count);
  const weights = Float32Array.from(chosen, (expert) => scores[expert]);
  if (normalize) {
    let sum = 0;
    for (const weight of weights) sum = f32(sum + weight);
    sum = f32(sum + f32(normalize.epsilon));
    for (let j = 0; j < count; j++) weights[j] = f32(weights[j] / sum);
  }
  for (let j = 0; j < count; j++) weights[j] = f32(weights[j] * f32(scale));
  return { chosen, weights };
}

/** 1 for the experts of the best groups, 0 for the others. */
function candidatesOf(
  choice: Float32Array,
  { count, chosen, rate }: { count: number; chosen: number; rate: "largest" | "twoLargest" },
): Uint8Array {
  const size = choice.length / count;
  const ratings = new Float32Array(count);
  for (let group = 0; group < count; group++) {
    const own = choice.subarray(group * size, (group + 1) * size);
    const [first, second] = takeLargest(own, new Uint8Array(size).fill(1), Math.min(2, size));
    ratings[group] = rate === "largest" ? own[first] : f32(own[first] + own[second]);
  }
  const candidates = new Uint8Array(choice.length);
  for (const group of takeLargest(ratings, new Uint8Array(count).fill(1), chosen)) {
    candidates.fill(1, group * size, (group + 1) * size);
  }
  return candidates;
}

/** Indices of the `count` largest candidates, the largest first, the lower index where two are equal. */
function takeLargest(values: Float32Array, candidates: Uint8Array, count: number): Int32Array {
  const left = candidates.slice();
  const taken = new Int32Array(count);
  for (let n = 0; n < count; n++) {
    taken[n] = largestOf(values, left);
    left[taken[n]] = 0;
  }
  return taken;
}

/** NaN is never larger than another: with nothing else left, the first candidate is taken. */
function largestOf(values: Float32Array, candidates: Uint8Array): number {
  let best = candidates.indexOf(1);
  for (let i = best + 1; i < values.length; i++) {
    if (candidates[i] === 1 && values[i] > values[best]) best = i;
  }
  return best;
}

function mixSparsely(logits: Float32Array, count: number, jitter: number): Routed {
  const left = new Uint8Array(logits.length).fill(1);
  const chosen = new Int32Array(count);
  const weights = new Float32Array(count);
  const limit = f32(2 * jitter);
  for (let j = 0; j < count; j++) {
    const best = largestOf(logits, left);
    const top = logits[best];
    const shares = logits.map((x, i) => {
      const far = f32(f32(top - x) / Math.max(Math.abs(x), top)) > limit;
      return left[i] === 0 || far ? Number.NEGATIVE_INFINITY : x;
    });
    softmax(shares, shares.length);
    chosen[j] = best;
    weights[j] = shares[best];
    left[best] = 0;
  }
  return { chosen, weights };
}

/** The rows of each expert that has any, both in ascending order: row i names its expert in `chosen[i]`. */
export function rowsByExpert(chosen: Float32Array): Map<number, number[]> {
  const rows = new Map<number, number[]>();
  chosen.forEach((expert, row) => {
    const list = rows.get(expert);
    if (list) list.push(row);
    else rows.set(expert, [row]);
  });
  return new Map([...rows].sort(([a], [b]) => a - b));
}
