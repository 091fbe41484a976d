// Norms, rotation and attention; elements.ts has what goes element by element. Each repeats src/backends/reference-*.ts bit for
// bit: sums have the eight lanes of ops.ts (element i goes to lane i mod 8), so two f32x4 accumulators are exactly the
// scalar order.

import { exp1, exp4, tanh1, tanh4 } from "./functions";
import { addAcross, largestLane } from "./lanes";

/** ((S0 + S1) + S2) … + S7. */
// @ts-ignore: decorator
@inline
export function sumLanes(low: v128, high: v128): f32 {
  let sum = f32x4.extract_lane(low, 0);
  sum += f32x4.extract_lane(low, 1);
  sum += f32x4.extract_lane(low, 2);
  sum += f32x4.extract_lane(low, 3);
  sum += f32x4.extract_lane(high, 0);
  sum += f32x4.extract_lane(high, 1);
  sum += f32x4.extract_lane(high, 2);
  sum += f32x4.extract_lane(high, 3);
  return sum;
}

/** Products that do not exist must leave their lane untouched: adding +0 would turn a lane of -0 into +0, but no lane
 * sum is ever -0 (it starts at +0), so zero padding is exact. */
const tail = memory.data(64, 16);

/** Eight-lane dot of `count` floats at `a` and `b`. */
export function dot8(a: usize, b: usize, count: i32): f32 {
  let low = f32x4.splat(0);
  let high = f32x4.splat(0);
  const whole = count & ~7;
  const end = a + (<usize>whole << 2);
  while (a < end) {
    low = f32x4.add(low, f32x4.mul(v128.load(a), v128.load(b)));
    high = f32x4.add(high, f32x4.mul(v128.load(a, 16), v128.load(b, 16)));
    a += 32;
    b += 32;
  }
  const rest = count - whole;
  if (rest > 0) {
    memory.fill(tail, 0, 64);
    memory.copy(tail, a, <usize>rest << 2);
    memory.copy(tail + 32, b, <usize>rest << 2);
    low = f32x4.add(low, f32x4.mul(v128.load(tail), v128.load(tail, 32)));
    high = f32x4.add(high, f32x4.mul(v128.load(tail, 16), v128.load(tail, 48)));
  }
  return sumLanes(low, high);
}

/** RMS norm of `runs` runs of `width` floats from `x` to `out` (which may be `x`). */
export function rms_norm(x: usize, weight: usize, out: usize, runs: i32, width: i32, epsilon: f32): void {
  const bytes = <usize>width << 2;
  for (let run = 0; run < runs; run++, x += bytes, out += bytes) {
    const mean: f32 = dot8(x, x, width) / <f32>width;
    const factor: f32 = <f32>1 / sqrt<f32>(mean + epsilon);
    const factors = f32x4.splat(factor);
    let i: usize = 0;
    for (; i + 16 <= bytes; i += 16) {
      v128.store(out + i, f32x4.mul(f32x4.mul(v128.load(x + i), factors), v128.load(weight + i)));
    }
    for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(x + i) * factor * load<f32>(weight + i));
  }
}

/** Sum of `count` floats by eight lanes. */
function sum8(x: usize, count: i32): f32 {
  let low = f32x4.splat(0);
  let high = f32x4.splat(0);
  const whole = count & ~7;
  const end = x + (<usize>whole << 2);
  for (; x < end; x += 32) {
    low = f32x4.add(low, v128.load(x));
    high = f32x4.add(high, v128.load(x, 16));
  }
  const rest = count - whole;
  if (rest > 0) {
    memory.fill(tail, 0, 32);
    memory.copy(tail, x, <usize>rest << 2);
    low = f32x4.add(low, v128.load(tail));
    high = f32x4.add(high, v128.load(tail, 16));
  }
  return sumLanes(low, high);
}

/** Layer norm of `runs` runs of `width` floats from `x` to `out` (which may be `x`). */
export function layer_norm(x: usize, weight: usize, bias: usize, out: usize, runs: i32, width: i32, epsilon: f32): void {
  const bytes = <usize>width << 2;
  for (let run = 0; run < runs; run++, x += bytes, out += bytes) {
    const mean: f32 = sum8(x, width) / <f32>width;
    const means = f32x4.splat(mean);
    let i: usize = 0;
    for (; i + 16 <= bytes; i += 16) v128.store(out + i, f32x4.sub(v128.load(x + i), means));
    for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(x + i) - mean);
    const variance: f32 = dot8(out, out, width) / <f32>width;
    const factor: f32 = <f32>1 / sqrt<f32>(variance + epsilon);
    const factors = f32x4.splat(factor);
    for (i = 0; i + 16 <= bytes; i += 16) {
      const scaled = f32x4.mul(f32x4.mul(v128.load(out + i), factors), v128.load(weight + i));
      v128.store(out + i, f32x4.add(scaled, v128.load(bias + i)));
    }
    for (; i < bytes; i += 4) {
      store<f32>(out + i, load<f32>(out + i) * factor * load<f32>(weight + i) + load<f32>(bias + i));
    }
  }
}

/** Rotates neighbouring pairs of `heads` heads, `stride` bytes apart, in place. */
export function rotate_neighbours(x: usize, heads: i32, stride: i32, pairs: i32, cosines: usize, sines: usize): void {
  for (let head = 0; head < heads; head++, x += stride) {
    for (let pair: usize = 0; pair < <usize>pairs << 2; pair += 4) {
      const at = x + (pair << 1);
      const a = load<f32>(at);
      const b = load<f32>(at, 4);
      const c = load<f32>(cosines + pair);
      const s = load<f32>(sines + pair);
      store<f32>(at, a * c - b * s);
      store<f32>(at, b * c + a * s, 4);
    }
  }
}

/** Rotates `heads` heads, `stride` bytes apart, in place. */
export function rotate_heads(x: usize, heads: i32, stride: i32, pairs: i32, cosines: usize, sines: usize): void {
  for (let head = 0; head < heads; head++, x += stride) rotateHead(x, pairs, cosines, sines);
}

/** Rotates the half-split pairs of one head in place. */
function rotateHead(x: usize, pairs: i32, cosines: usize, sines: usize): void {
  const bytes = <usize>pairs << 2;
  const y = x + bytes;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) {
    const a = v128.load(x + i);
    const b = v128.load(y + i);
    const c = v128.load(cosines + i);
    const s = v128.load(sines + i);
    v128.store(x + i, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)));
    v128.store(y + i, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)));
  }
  for (; i < bytes; i += 4) {
    const a = load<f32>(x + i);
    const b = load<f32>(y + i);
    const c = load<f32>(cosines + i);
    const s = load<f32>(sines + i);
    store<f32>(x + i, a * c - b * s);
    store<f32>(y + i, b * c + a * s);
  }
}

/** scores[n] = dot8(q, key n)·scale for `run` keys, `stride` bytes apart. Four at a time read q once and add up side by side. */
function scoreRun(q: usize, keys: usize, stride: usize, run: i32, width: i32, scale: f32, scores: usize): void {
  if ((width & 7) == 0) {
    for (; run >= 4; run -= 4, keys += stride << 2, scores += 16) scoreFour(q, keys, stride, width, scale, scores);
  }
  for (; run > 0; run--, keys += stride, scores += 4) store<f32>(scores, dot8(q, keys, width) * scale);
}

/** The halves of the eight lanes one after the other: all eight sums of four keys would not fit in registers. */
// @ts-ignore: decorator
@inline
function scoreFour(q: usize, k0: usize, stride: usize, width: i32, scale: f32, scores: usize): void {
  const bytes = <usize>width << 2;
  let sums = f32x4.splat(-0.0);
  for (let half: usize = 0; half < 32; half += 16) {
    let a = f32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let k = k0 + half;
    for (let x = q + half; x < q + bytes; x += 32, k += 32) {
      const v = v128.load(x);
      a = f32x4.add(a, f32x4.mul(v, v128.load(k)));
      b = f32x4.add(b, f32x4.mul(v, v128.load(k + stride)));
      c = f32x4.add(c, f32x4.mul(v, v128.load(k + (stride << 1))));
      d = f32x4.add(d, f32x4.mul(v, v128.load(k + stride * 3)));
    }
    sums = addAcross(sums, a, b, c, d);
  }
  v128.store(scores, f32x4.mul(sums, f32x4.splat(scale)));
}

/** Turns `count` scores into weights exp(s - max) / sum, in place. */
function softmax(scores: usize, count: i32): void {
  const bytes = <usize>count << 2;
  let mosts = f32x4.splat(-Infinity);
  let j: usize = 0;
  for (; j + 16 <= bytes; j += 16) mosts = f32x4.pmax(mosts, v128.load(scores + j)); // passes over NaN
  let most = largestLane(mosts);
  for (; j < bytes; j += 4) {
    const s = load<f32>(scores + j);
    if (s > most) most = s;
  }
  const top = f32x4.splat(most);
  let low = f32x4.splat(0);
  let high = f32x4.splat(0);
  let i: usize = 0;
  for (; i + 32 <= bytes; i += 32) {
    const a = exp4(f32x4.sub(v128.load(scores + i), top));
    const b = exp4(f32x4.sub(v128.load(scores + i, 16), top));
    v128.store(scores + i, a);
    v128.store(scores + i, b, 16);
    low = f32x4.add(low, a);
    high = f32x4.add(high, b);
  }
  if (i < bytes) {
    memory.fill(tail, 0, 32);
    for (let j: usize = 0; i + j < bytes; j += 4) {
      const e = exp1(load<f32>(scores + i + j) - most);
      store<f32>(scores + i + j, e);
      store<f32>(tail + j, e);
    }
    low = f32x4.add(low, v128.load(tail));
    high = f32x4.add(high, v128.load(tail, 16));
  }
  const sum = sumLanes(low, high);
  const sums = f32x4.splat(sum);
  for (i = 0; i + 16 <= bytes; i += 16) v128.store(scores + i, f32x4.div(v128.load(scores + i), sums));
  for (; i < bytes; i += 4) store<f32>(scores + i, load<f32>(scores + i) / sum);
}

/** out += Σ_n weights[n]·value n in n order, for `run` values of `width` floats, `stride` bytes apart. */
function mixRun(weights: usize, values: usize, stride: usize, run: i32, width: i32, out: usize): void {
  const bytes = <usize>width << 2;
  let i: usize = 0;
  // Sixteen columns at a time: four independent sums hide the latency of each one's fixed order.
  for (; i + 64 <= bytes; i += 64) {
    let s0 = v128.load(out + i);
    let s1 = v128.load(out + i, 16);
    let s2 = v128.load(out + i, 32);
    let s3 = v128.load(out + i, 48);
    let v = values + i;
    for (let n: usize = 0; n < <usize>run << 2; n += 4, v += stride) {
      const w = v128.load32_splat(weights + n);
      s0 = f32x4.add(s0, f32x4.mul(w, v128.load(v)));
      s1 = f32x4.add(s1, f32x4.mul(w, v128.load(v, 16)));
      s2 = f32x4.add(s2, f32x4.mul(w, v128.load(v, 32)));
      s3 = f32x4.add(s3, f32x4.mul(w, v128.load(v, 48)));
    }
    v128.store(out + i, s0);
    v128.store(out + i, s1, 16);
    v128.store(out + i, s2, 32);
    v128.store(out + i, s3, 48);
  }
  for (; i < bytes; i += 4) {
    let sum = load<f32>(out + i);
    let v = values + i;
    for (let n: usize = 0; n < <usize>run << 2; n += 4, v += stride) sum += load<f32>(weights + n) * load<f32>(v);
    store<f32>(out + i, sum);
  }
}

/** scores = tanh(scores / cap)·cap over `count` floats from `scores` to `out`. */
export function softcap_rows(scores: usize, out: usize, count: i32, cap: f32): void {
  const caps = f32x4.splat(cap);
  const bytes = <usize>count << 2;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) {
    v128.store(out + i, f32x4.mul(tanh4(f32x4.div(v128.load(scores + i), caps)), caps));
  }
  for (; i < bytes; i += 4) store<f32>(out + i, tanh1(load<f32>(scores + i) / cap) * cap);
}

const CACHE_BLOCK: i32 = 32;

/**
 * One query head over `count` positions of a sequence, from position `first` on. `blocks` holds the address of each cache
 * block of the sequence, 32 positions each; a position has `keyStride` and `valueStride` bytes, and this head's key is `key`
 * bytes and its value `value` bytes behind the block's start. `softcap` 0 is none. `scores` is room for `count` floats.
 */
export function attend(
  q: usize,
  blocks: usize,
  first: i32,
  count: i32,
  keyStride: i32,
  key: usize,
  keyWidth: i32,
  valueStride: i32,
  value: usize,
  valueWidth: i32,
  scale: f32,
  softcap: f32,
  scores: usize,
  out: usize,
): void {
  for (let t = 0, run = 0; t < count; t += run) {
    const place = (first + t) % CACHE_BLOCK;
    run = min<i32>(CACHE_BLOCK - place, count - t);
    const keys = <usize>load<u32>(blocks + (<usize>((first + t) / CACHE_BLOCK) << 2)) + key + <usize>place * keyStride;
    scoreRun(q, keys, keyStride, run, keyWidth, scale, scores + (<usize>t << 2));
  }
  if (softcap != 0) softcap_rows(scores, scores, count, softcap);
  softmax(scores, count);
  memory.fill(out, 0, <usize>valueWidth << 2);
  for (let t = 0, run = 0; t < count; t += run) {
    const place = (first + t) % CACHE_BLOCK;
    run = min<i32>(CACHE_BLOCK - place, count - t);
    const block = <usize>load<u32>(blocks + (<usize>((first + t) / CACHE_BLOCK) << 2));
    const values = block + value + <usize>place * valueStride;
    mixRun(scores + (<usize>t << 2), values, valueStride, run, valueWidth, out);
  }
}
