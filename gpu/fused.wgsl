// A step of one token, in few dispatches, for matrices of Q4_K: a norm if there is one, the quantization of its result, up to
// three products, and what is done with them. Every workgroup prepares the activations for itself, which takes less time than
// another dispatch. Threads work in subgroups of 32, each with ROWS outputs; memory that no product needs is written by the
// first workgroup.

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
  spare0: u32,
  spare1: u32,
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

const THREADS = 256u;
const TEAMS = 8u;
const MOST_WIDTH = 16384u;

var<workgroup> codes: array<vec4u, MOST_WIDTH / 16u>;
var<workgroup> sides: array<vec4f, MOST_WIDTH / 64u>; // scale and low factor of 32 activations, and of the next 32
var<workgroup> partial: array<f32, TEAMS>;

fn larger(p: u32, q: u32) -> u32 { return select(p, q, (q & 0x7fffffffu) > (p & 0x7fffffffu)); }

// Eight activations of a thread, of block `block`.
struct Eight { low: vec4f, high: vec4f }

fn load_eight(block: u32, lane: u32) -> Eight {
  let at = parameters.x / 4u + 64u * block + 2u * lane;
  return Eight(slots[at], slots[at + 1u]);
}

fn norm_factor(thread: u32, lane: u32, mine: Eight) -> f32 {
  var squares = dot(mine.low, mine.low) + dot(mine.high, mine.high);
  for (var block = thread / 32u + TEAMS; block < parameters.width / 256u; block += TEAMS) {
    let other = load_eight(block, lane);
    squares += dot(other.low, other.low) + dot(other.high, other.high);
  }
  squares = subgroupAdd(squares);
  if (lane == 0u) { partial[thread / 32u] = squares; }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < TEAMS; i++) { sum += partial[i]; }
  return 1.0 / sqrt(sum / f32(parameters.width) + parameters.epsilon);
}

fn peak_of4(v: vec4f) -> u32 {
  let bits = bitcast<vec4u>(v);
  return larger(larger(larger(bits.x, bits.y), bits.z), bits.w);
}

fn codes_of(v: vec4f, inverse: f32) -> vec4i {
  return vec4i(
    min(127, nearest_int(product(inverse, v.x))),
    min(127, nearest_int(product(inverse, v.y))),
    min(127, nearest_int(product(inverse, v.z))),
    min(127, nearest_int(product(inverse, v.w))),
  );
}

// Activations of a block, eight a thread, as Q8_K.
fn prepare_block(block: u32, lane: u32, raw: Eight, factor: f32, isFirst: bool) {
  var v = raw;
  if (NORMED) {
    let at = 64u * block + 2u * lane;
    v.low = (v.low * factor) * norm[at];
    v.high = (v.high * factor) * norm[at + 1u];
    if (isFirst && parameters.normed != parameters.x) {
      slots[parameters.normed / 4u + at] = v.low;
      slots[parameters.normed / 4u + at + 1u] = v.high;
    }
  }
  var peak = larger(peak_of4(v.low), peak_of4(v.high));
  let most = subgroupMax(peak & 0x7fffffffu);
  let holders = subgroupBallot((peak & 0x7fffffffu) == most);
  peak = subgroupShuffle(peak, firstTrailingBit(holders.x));
  var inverse = 0.0;
  var d = 0.0;
  if (most != 0u) {
    inverse = quotient(-127.0, bitcast<f32>(peak));
    d = quotient(1.0, inverse);
  }
  let q = codes_of(v.low, inverse);
  let r = codes_of(v.high, inverse);
  let low = pack4xI8(q);
  let high = pack4xI8(r);
  let nextLow = subgroupShuffleXor(low, 1u);
  let nextHigh = subgroupShuffleXor(high, 1u);
  if ((lane & 1u) == 0u) { codes[16u * block + lane / 2u] = vec4u(low, high, nextLow, nextHigh); }
  let both = q + r;
  var sum = both.x + both.y + both.z + both.w;
  sum += subgroupShuffleXor(sum, 1u);
  sum += subgroupShuffleXor(sum, 2u);
  let next = subgroupShuffleXor(sum, 4u);
  if ((lane & 7u) == 0u) {
    sides[4u * block + lane / 8u] = vec4f(d, product(d, f32(sum)), d, product(d, f32(next)));
  }
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
  let first = dot32(w & nibbles, v & nibbles, codes[4u * p], codes[4u * p + 1u]);
  let second = dot32((w >> four) & nibbles, (v >> four) & nibbles, codes[4u * p + 2u], codes[4u * p + 3u]);
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
  let high = side.x * (first * (d.x * f32(scales & 255u))) + side.z * (second * (d.x * f32(scales >> 8u)));
  return high - (side.y * (d.y * f32(minima & 255u)) + side.w * (d.y * f32(minima >> 8u)));
}

// What a thread reads first of its rows: fetched before the activations are prepared, so that memory is never idle.
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

fn row_sums(matrix: ptr<storage, array<vec4u>, read>, row: u32, lane: u32, fetched: Ahead) -> array<f32, ROWS> {
  var sums: array<f32, ROWS>;
  var ahead = fetched;
  let pairs = parameters.width / 64u;
  for (var p = lane; p < pairs; p += 32u) {
    let now = ahead;
    if (p + 32u < pairs) { ahead = fetch(matrix, row, p + 32u); }
    for (var r = 0u; r < ROWS; r++) { sums[r] += pair_dot(now.head[r], now.w[r], now.v[r], p); }
  }
  for (var r = 0u; r < ROWS; r++) { sums[r] = subgroupAdd(sums[r]); }
  return sums;
}

fn put(at: u32, value: f32) { slots[at / 4u][at % 4u] = value; }

@compute @workgroup_size(256)
fn step_linear(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let number = group.x + group.y * groups.x;
  let row = (number * TEAMS + thread / 32u) * ROWS;
  let rowB = row - parameters.countA;
  let rowC = rowB - parameters.countB;
  let p = min(lane, parameters.width / 64u - 1u);
  var ahead: Ahead;
  var ups: Ahead;
  if (row < parameters.countA) {
    ahead = fetch(&a, row, p);
    if (GATED) { ups = fetch(&b, row, p); }
  } else if (!GATED) {
    if (rowB < parameters.countB) { ahead = fetch(&b, rowB, p); }
    else if (rowC < parameters.countC) { ahead = fetch(&c, rowC, p); }
  }
  let team = thread / 32u;
  let blocks = parameters.width / 256u;
  let mine = load_eight(min(team, blocks - 1u), lane);
  var factor = 1.0;
  if (NORMED) { factor = norm_factor(thread, lane, Eight(select(vec4f(), mine.low, team < blocks), select(vec4f(), mine.high, team < blocks))); }
  if (team < blocks) { prepare_block(team, lane, mine, factor, number == 0u); }
  for (var block = team + TEAMS; block < blocks; block += TEAMS) {
    prepare_block(block, lane, load_eight(block, lane), factor, number == 0u);
  }
  workgroupBarrier();
  if (row < parameters.countA) {
    var sums = row_sums(&a, row, lane, ahead);
    if (GATED) {
      let others = row_sums(&b, row, lane, ups);
      for (var r = 0u; r < ROWS; r++) { sums[r] = activate_one(parameters.activation, sums[r]) * others[r]; }
    }
    if (lane == 0u) {
      for (var r = 0u; r < ROWS; r++) {
        if (ADDED) {
          let at = parameters.added + row + r;
          sums[r] = slots[at / 4u][at % 4u] + sums[r] * parameters.scale;
        }
        put(parameters.outA + row + r, sums[r]);
      }
    }
    return;
  }
  if (GATED) { return; }
  if (rowB < parameters.countB) {
    let sums = row_sums(&b, rowB, lane, ahead);
    if (lane == 0u) { for (var r = 0u; r < ROWS; r++) { put(parameters.outB + rowB + r, sums[r]); } }
    return;
  }
  if (rowC < parameters.countC) {
    let sums = row_sums(&c, rowC, lane, ahead);
    if (lane == 0u) { for (var r = 0u; r < ROWS; r++) { put(parameters.outC + rowC + r, sums[r]); } }
  }
}
