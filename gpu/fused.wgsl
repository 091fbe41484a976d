// A step of one token, in few dispatches, for matrices of Q4_K: a norm if there is one, the quantization of its result, up to
// three products, and what is done with them. Every workgroup prepares the activations for itself, which takes less time than
// another dispatch. A team of 32 threads takes ROWS outputs at a time, `steps` times. Memory that no product needs is written by
// the first workgroup.

struct Parameters {
  zero: u32,
  width: u32,
  x: u32,       // words of `slots` before the input
  normed: u32,  // before the normed input
  added: u32,   // before what the products are added to
  outA: u32,    // before the results of a, b and c
  outB: u32,
  outC: u32,
  countA: u32,  // outputs
  countB: u32,
  countC: u32,
  activation: u32,
  epsilon: f32,
  scale: f32,   // of what is added
  steps: u32,   // groups of rows that a team takes, one after the other
  spare: u32,
}
@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> a: array<vec4u>;
@group(0) @binding(2) var<storage, read> b: array<vec4u>;
@group(0) @binding(3) var<storage, read> c: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> slots: array<vec4f>;
@group(0) @binding(5) var<storage, read> norm: array<vec4f>;

override NORMED: bool = false; // the input goes through an RMS norm
override ADDED: bool = false;  // results are added to others
override GATED: bool = false;  // the result is activation(a) · b

const MOST_WIDTH = 16384u;
const CHUNK = TEAMS * ROWS; // rows
const MOST_PAIRS = MOST_WIDTH / 64u; // of 32 activations

var<workgroup> codes: array<vec4u, 4u * MOST_PAIRS>; // vector j of pair p at j · MOST_PAIRS + p: neighbours read neighbours
var<workgroup> sides: array<vec4f, MOST_PAIRS>;      // scale and low factor of 32 activations, and of the next 32
var<workgroup> scales: array<f32, MOST_WIDTH / 256u>; // inverted
var<workgroup> partial: array<f32, TEAMS>;
var<workgroup> results: array<f32, CHUNK>;

// Eight activations of a thread.
struct Eight { low: vec4f, high: vec4f }

// Of block `block`, or zeros behind the last one.
fn load_eight(block: u32, lane: u32) -> Eight {
  if (block >= parameters.width / 256u) { return Eight(); }
  let at = parameters.x / 4u + 64u * block + 2u * lane;
  return Eight(slots[at], slots[at + 1u]);
}

// Of the norm's weights.
fn load_weights(block: u32, lane: u32) -> Eight {
  if (!NORMED || block >= parameters.width / 256u) { return Eight(); }
  let at = 64u * block + 2u * lane;
  return Eight(norm[at], norm[at + 1u]);
}

fn norm_factor(thread: u32, mine: Eight) -> f32 {
  let lane = thread % TEAM;
  var squares = dot(mine.low, mine.low) + dot(mine.high, mine.high);
  for (var block = thread / TEAM + TEAMS; block < parameters.width / 256u; block += TEAMS) {
    let other = load_eight(block, lane);
    squares += dot(other.low, other.low) + dot(other.high, other.high);
  }
  squares = team_sum(thread, squares);
  if (lane == 0u) { partial[thread / TEAM] = squares; }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < TEAMS; i++) { sum += partial[i]; }
  return 1.0 / sqrt(sum / f32(parameters.width) + parameters.epsilon);
}

// Orders by magnitude, and by sign where that is the same. With a peak of the other sign, codes and scale have other signs too.
fn key4(v: vec4f) -> u32 {
  let bits = bitcast<vec4u>(v);
  let keys = (bits << vec4u(1u)) | ((bits >> vec4u(31u)) ^ vec4u(1u));
  return max(max(keys.x, keys.y), max(keys.z, keys.w));
}

fn codes_of(v: vec4f, inverse: f32) -> u32 {
  return pack4xI8(vec4i(
    min(127, nearest_int(product(inverse, v.x))),
    min(127, nearest_int(product(inverse, v.y))),
    min(127, nearest_int(product(inverse, v.z))),
    min(127, nearest_int(product(inverse, v.w))),
  ));
}

// Activations of a block, eight a thread, as Q8_K. Teams behind the last block only take part.
fn prepare_block(block: u32, thread: u32, raw: Eight, weights: Eight, factor: f32, isFirst: bool) {
  let lane = thread % TEAM;
  let isReal = block < parameters.width / 256u;
  var v = raw;
  if (NORMED && isReal) {
    let at = 64u * block + 2u * lane;
    v.low = (v.low * factor) * weights.low;
    v.high = (v.high * factor) * weights.high;
    if (isFirst && parameters.normed != parameters.x) {
      slots[parameters.normed / 4u + at] = v.low;
      slots[parameters.normed / 4u + at + 1u] = v.high;
    }
  }
  let key = team_max(thread, max(key4(v.low), key4(v.high)));
  var inverse = 0.0;
  if (key > 1u) { inverse = quotient(-127.0, bitcast<f32>((key >> 1u) | (((key & 1u) ^ 1u) << 31u))); }
  let low = codes_of(v.low, inverse);
  let high = codes_of(v.high, inverse);
  let nextLow = subgroupShuffleXor(low, 1u);
  let nextHigh = subgroupShuffleXor(high, 1u);
  if (isReal && (lane & 1u) == 0u) {
    codes[((lane / 2u) & 3u) * MOST_PAIRS + 4u * block + lane / 8u] = vec4u(low, high, nextLow, nextHigh);
  }
  if (isReal && lane == 0u) { scales[block] = inverse; }
}

fn sum_of_codes(v: vec4u) -> i32 {
  let ones = 0x01010101u;
  return dot4I8Packed(v.x, ones) + dot4I8Packed(v.y, ones) + dot4I8Packed(v.z, ones) + dot4I8Packed(v.w, ones);
}

// Reads the input, and makes its codes, scales and what minima are multiplied by.
fn prepare(thread: u32, isFirst: bool) {
  let team = thread / TEAM;
  let lane = thread % TEAM;
  var raw = load_eight(team, lane);
  var weights = load_weights(team, lane);
  var factor = 1.0;
  if (NORMED) { factor = norm_factor(thread, raw); }
  for (var first = 0u; first < parameters.width / 256u; first += TEAMS) {
    let now = raw;
    let own = weights;
    raw = load_eight(first + TEAMS + team, lane);
    weights = load_weights(first + TEAMS + team, lane);
    prepare_block(first + team, thread, now, own, factor, isFirst);
  }
  workgroupBarrier();
  if (thread < parameters.width / 64u) {
    var d = scales[thread / 4u];
    if (d != 0.0) { d = quotient(1.0, d); }
    let sum = sum_of_codes(codes[thread]) + sum_of_codes(codes[MOST_PAIRS + thread]);
    let next = sum_of_codes(codes[2u * MOST_PAIRS + thread]) + sum_of_codes(codes[3u * MOST_PAIRS + thread]);
    sides[thread] = vec4f(d, product(d, f32(sum)), d, product(d, f32(next)));
  }
  workgroupBarrier();
}

fn dot32(w: vec4u, v: vec4u, x: vec4u, y: vec4u) -> f32 {
  return f32(
    dot4I8Packed(w.x, x.x) + dot4I8Packed(w.y, x.y) + dot4I8Packed(w.z, x.z) + dot4I8Packed(w.w, x.w) +
    dot4I8Packed(v.x, y.x) + dot4I8Packed(v.y, y.y) + dot4I8Packed(v.z, y.z) + dot4I8Packed(v.w, y.w),
  );
}

// 64 weights of a block (its vectors `head`, w, v), pair p of a row, times the activations.
fn pair_dot(head: vec4u, w: vec4u, v: vec4u, p: u32) -> f32 {
  let j = 2u * (p & 3u);
  let side = sides[p];
  let nibbles = vec4u(0x0f0f0f0fu);
  let four = vec4u(4u);
  let first = dot32(w & nibbles, v & nibbles, codes[p], codes[MOST_PAIRS + p]);
  let second = dot32((w >> four) & nibbles, (v >> four) & nibbles, codes[2u * MOST_PAIRS + p], codes[3u * MOST_PAIRS + p]);
  let shift = 8u * (j & 3u);
  let s = head.y >> shift;
  let m = head.z >> shift;
  let last = head.w >> shift;
  // Two scales and two minima, in bytes 0 and 1.
  var scales = s & 0x3f3fu;
  var minima = m & 0x3f3fu;
  if (j >= 4u) {
    scales = (last & 0x0f0fu) | ((s >> 2u) & 0x3030u);
    minima = ((last >> 4u) & 0x0f0fu) | ((m >> 2u) & 0x3030u);
  }
  let d = unpack2x16float(head.x);
  // Unit by unit, as gpu/linear.wgsl: with both highs before both lows a text of the models left that of the reference.
  let lower = side.x * (first * (d.x * f32(scales & 255u))) - side.y * (d.y * f32(minima & 255u));
  return lower + (side.z * (second * (d.x * f32(scales >> 8u))) - side.w * (d.y * f32(minima >> 8u)));
}

// What a thread reads of its rows: fetched before the activations are prepared, and before the rows ahead are multiplied, so
// that memory is never idle.
struct Ahead { head: array<vec4u, ROWS>, w: array<vec4u, ROWS>, v: array<vec4u, ROWS> }

fn fetch(matrix: ptr<storage, array<vec4u>, read>, row: u32, p: u32) -> Ahead {
  var ahead: Ahead;
  let blocks = parameters.width / 256u;
  for (var r = 0u; r < ROWS; r++) {
    let at = 9u * ((row + r) * blocks + p / 4u);
    let w = at + 1u + 2u * (p & 3u);
    ahead.head[r] = (*matrix)[at];
    ahead.w[r] = (*matrix)[w];
    ahead.v[r] = (*matrix)[w + 1u];
  }
  return ahead;
}

// Of the rows of all matrices, one after the other; of gates only a's.
fn fetch_any(row: u32, p: u32) -> Ahead {
  if (row < parameters.countA) { return fetch(&a, row, p); }
  if (GATED) { return Ahead(); }
  let rowB = row - parameters.countA;
  if (rowB < parameters.countB) { return fetch(&b, rowB, p); }
  let rowC = rowB - parameters.countB;
  if (rowC < parameters.countC) { return fetch(&c, rowC, p); }
  return Ahead();
}

fn fetch_ups(row: u32, p: u32) -> Ahead {
  if (GATED && row < parameters.countA) { return fetch(&b, row, p); }
  return Ahead();
}

// Writes four rows: a vector of four is written by one thread.
fn put_four(row: u32, value: vec4f) {
  if (row < parameters.countA) {
    var sum = value;
    if (ADDED) { sum = slots[(parameters.added + row) / 4u] + value * parameters.scale; }
    slots[(parameters.outA + row) / 4u] = sum;
    return;
  }
  if (GATED) { return; }
  let rowB = row - parameters.countA;
  if (rowB < parameters.countB) {
    slots[(parameters.outB + rowB) / 4u] = value;
    return;
  }
  let rowC = rowB - parameters.countB;
  if (rowC < parameters.countC) { slots[(parameters.outC + rowC) / 4u] = value; }
}

@compute @workgroup_size(256)
fn step_linear(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let number = group.x + group.y * groups.x;
  let lane = thread % TEAM;
  let pairs = parameters.width / 64u;
  let begin = number * parameters.steps * CHUNK;
  let p = min(lane, pairs - 1u);
  var ahead = fetch_any(begin + thread / TEAM * ROWS, p);
  var ups = fetch_ups(begin + thread / TEAM * ROWS, p);
  prepare(thread, number == 0u);
  for (var step = 0u; step < parameters.steps; step++) {
    let chunk = begin + step * CHUNK;
    let row = chunk + thread / TEAM * ROWS;
    var sums = array<f32, ROWS>(); // written out: a variable without a value kept that of the round before
    var others = array<f32, ROWS>();
    for (var first = 0u; first < pairs; first += TEAM) {
      let now = ahead;
      let nowUps = ups;
      let isLast = first + TEAM >= pairs;
      if (!isLast || step + 1u < parameters.steps) {
        let nextRow = select(row, row + CHUNK, isLast);
        let next = min(select(first + TEAM, 0u, isLast) + lane, pairs - 1u);
        ahead = fetch_any(nextRow, next);
        if (GATED) { ups = fetch_ups(nextRow, next); }
      }
      let own = first + lane;
      if (own < pairs) {
        for (var r = 0u; r < ROWS; r++) {
          sums[r] += pair_dot(now.head[r], now.w[r], now.v[r], own);
          if (GATED) { others[r] += pair_dot(nowUps.head[r], nowUps.w[r], nowUps.v[r], own); }
        }
      }
    }
    for (var r = 0u; r < ROWS; r++) {
      var sum = team_sum(thread, sums[r]);
      if (GATED) { sum = activate_one(parameters.activation, sum) * team_sum(thread, others[r]); }
      if (lane == 0u) { results[thread / TEAM * ROWS + r] = sum; }
    }
    workgroupBarrier();
    if (thread < CHUNK / 4u) {
      let at = 4u * thread;
      put_four(chunk + at, vec4f(results[at], results[at + 1u], results[at + 2u], results[at + 3u]));
    }
    if (step + 1u < parameters.steps) { workgroupBarrier(); }
  }
}
