// The kernels of the forward pass besides the matmuls. Each repeats src/backends/reference-*.ts bit for bit: sums have the
// eight lanes of program.ts (element i goes to lane i mod 8), so two f32x4 accumulators are exactly the scalar order.

const LN2_HIGH: f32 = 0.693359375;
const LN2_LOW: f32 = <f32>-2.12194440054690583e-4;
const LOG2E: f32 = <f32>1.4426950408889634;
const MAGIC: f32 = 12582912;
const UNDERFLOW: f32 = <f32>-87.33654;
const OVERFLOW: f32 = <f32>88.72283;
const C7: f32 = <f32>(1.0 / 5040.0);
const C6: f32 = <f32>(1.0 / 720.0);
const C5: f32 = <f32>(1.0 / 120.0);
const C4: f32 = <f32>(1.0 / 24.0);
const C3: f32 = <f32>(1.0 / 6.0);
const C2: f32 = 0.5;

/** e^x of four lanes; src/math.ts `exp32` step by step. NaN stays NaN, > 88.72 gives infinity, < -87.33 gives 0. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  const magic = f32x4.splat(MAGIC);
  const shifted = f32x4.add(f32x4.mul(x, f32x4.splat(LOG2E)), magic);
  const k = f32x4.sub(shifted, magic);
  const r = f32x4.sub(f32x4.sub(x, f32x4.mul(k, f32x4.splat(LN2_HIGH))), f32x4.mul(k, f32x4.splat(LN2_LOW)));
  let p = f32x4.add(f32x4.mul(f32x4.splat(C7), r), f32x4.splat(C6));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(C5));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(C4));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(C3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(C2));
  const y = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), f32x4.splat(1));
  // k as an integer sits in the low bits of `shifted`: 0x4B400000 + k.
  const integer = i32x4.sub(shifted, i32x4.splat(0x4b400000));
  const half = i32x4.shr_s(integer, 1);
  const low = i32x4.shl(i32x4.add(half, i32x4.splat(127)), 23);
  const high = i32x4.shl(i32x4.add(i32x4.sub(integer, half), i32x4.splat(127)), 23);
  let result = f32x4.mul(f32x4.mul(y, low), high);
  result = v128.andnot(result, f32x4.lt(x, f32x4.splat(UNDERFLOW)));
  result = v128.bitselect(f32x4.splat(Infinity), result, f32x4.gt(x, f32x4.splat(OVERFLOW)));
  return v128.bitselect(x, result, f32x4.ne(x, x));
}

// @ts-ignore: decorator
@inline
function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

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

/** out = silu(gate)·up over `count` floats. */
export function gate_silu(gate: usize, up: usize, out: usize, count: i32): void {
  const one = f32x4.splat(1);
  const bytes = <usize>count << 2;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) {
    const x = v128.load(gate + i);
    const silu = f32x4.div(x, f32x4.add(one, exp4(f32x4.neg(x))));
    v128.store(out + i, f32x4.mul(silu, v128.load(up + i)));
  }
  for (; i < bytes; i += 4) {
    const x = load<f32>(gate + i);
    store<f32>(out + i, (x / (<f32>1 + exp1(-x))) * load<f32>(up + i));
  }
}

/** out = a + b over `count` floats. */
export function add_rows(a: usize, b: usize, out: usize, count: i32): void {
  const bytes = <usize>count << 2;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) v128.store(out + i, f32x4.add(v128.load(a + i), v128.load(b + i)));
  for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(a + i) + load<f32>(b + i));
}

/** out = x · scale over `count` floats. */
export function scale_rows(x: usize, out: usize, count: i32, scale: f32): void {
  const bytes = <usize>count << 2;
  const factors = f32x4.splat(scale);
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) v128.store(out + i, f32x4.mul(v128.load(x + i), factors));
  for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(x + i) * scale);
}

/** scores[n] = dot8(q, key n)·scale for `run` keys, `stride` bytes apart. */
function scoreRun(q: usize, keys: usize, stride: usize, run: i32, width: i32, scale: f32, scores: usize): void {
  for (let n = 0; n < run; n++, keys += stride) {
    store<f32>(scores + (<usize>n << 2), dot8(q, keys, width) * scale);
  }
}

/** Turns `count` scores into weights exp(s - max) / sum, in place. */
function softmax(scores: usize, count: i32): void {
  const bytes = <usize>count << 2;
  let most: f32 = -Infinity;
  for (let i: usize = 0; i < bytes; i += 4) {
    const s = load<f32>(scores + i);
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

const CACHE_BLOCK: i32 = 32;

/**
 * One query head over `count` positions of a sequence, from position `first` on. `blocks` holds the address of each cache
 * block of the sequence, 32 positions each; a position has `stride` bytes, and this head's key is `key` bytes and its value
 * `value` bytes behind the block's start. `scores` is room for `count` floats.
 */
export function attend(
  q: usize,
  blocks: usize,
  first: i32,
  count: i32,
  stride: i32,
  key: usize,
  value: usize,
  width: i32,
  scale: f32,
  scores: usize,
  out: usize,
): void {
  for (let t = 0, run = 0; t < count; t += run) {
    const place = (first + t) % CACHE_BLOCK;
    run = min<i32>(CACHE_BLOCK - place, count - t);
    const block = <usize>load<u32>(blocks + (<usize>((first + t) / CACHE_BLOCK) << 2));
    scoreRun(q, block + key + <usize>place * stride, stride, run, width, scale, scores + (<usize>t << 2));
  }
  softmax(scores, count);
  memory.fill(out, 0, <usize>width << 2);
  for (let t = 0, run = 0; t < count; t += run) {
    const place = (first + t) % CACHE_BLOCK;
    run = min<i32>(CACHE_BLOCK - place, count - t);
    const block = <usize>load<u32>(blocks + (<usize>((first + t) / CACHE_BLOCK) << 2));
    mixRun(scores + (<usize>t << 2), block + value + <usize>place * stride, stride, run, width, out);
  }
}
