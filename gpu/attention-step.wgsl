// Rotation, cache and attention of a step of one token, in one dispatch: a workgroup takes a query head. Its key head is
// rotated by every workgroup that needs it, and stored by the first. Heads are whole vectors of four. Four threads share a
// position, each with every fourth vector of its key, and each with four positions of a tile, so that loads overlap.

const MOST_HEAD = 256u; // elements of a head
const TILE = THREADS;   // positions

@group(0) @binding(5) var<storage, read_write> quads: array<vec4f>; // the cache

var<workgroup> query: array<vec4f, MOST_HEAD / 4u>;
var<workgroup> key: array<vec4f, MOST_HEAD / 4u>;
var<workgroup> scores: array<f32, TILE>;
var<workgroup> places: array<u32, TILE>; // of values
var<workgroup> sums: array<vec4f, THREADS>;
var<workgroup> peaks: array<u32, TEAMS>;
var<workgroup> totals: array<f32, TEAMS>;

const INTERLEAVED = 1u;
const LONG = 2u;

// Element i of a head that starts at `at`, rotated.
fn rotated(at: u32, i: u32, position: u32) -> f32 {
  let pairs = parameters.groups; // of a head
  let x = slots[at + i];
  if (i < parameters.start || i >= parameters.start + 2u * pairs) { return x; }
  let inner = i - parameters.start;
  let interleaved = (parameters.flags & INTERLEAVED) != 0u;
  let pair = select(inner % pairs, inner / 2u, interleaved);
  let isSecond = select(inner >= pairs, (inner & 1u) == 1u, interleaved);
  let distance = select(pairs, 1u, interleaved);
  let other = slots[select(at + i + distance, at + i - distance, isSecond)];
  let angle = 2u * (position * pairs + pair);
  var turn = vec2f(first[angle], first[angle + 1u]);
  if ((parameters.flags & LONG) != 0u && call_length_of(0u) > parameters.beyond) {
    turn = vec2f(second[angle], second[angle + 1u]);
  }
  return x * turn.x + select(-other, other, isSecond) * turn.y;
}

fn rotated_quad(at: u32, quad: u32, position: u32) -> vec4f {
  let i = 4u * quad;
  return vec4f(rotated(at, i, position), rotated(at, i + 1u, position), rotated(at, i + 2u, position), rotated(at, i + 3u, position));
}

// The sum of all threads; the same way every time. The caller has a barrier before the next one.
fn sum_all(thread: u32, own: f32) -> f32 {
  let sum = team_sum(thread, own);
  if (thread % TEAM == 0u) { totals[thread / TEAM] = sum; }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < TEAMS; i++) { total += totals[i]; }
  return total;
}

// Floats in the order of integers, and back.
fn ordered(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return bits ^ select(0x80000000u, 0xffffffffu, (bits & 0x80000000u) != 0u);
}

fn unordered(bits: u32) -> f32 {
  return bitcast<f32>(bits ^ select(0xffffffffu, 0x80000000u, (bits & 0x80000000u) != 0u));
}

fn largest_all(thread: u32, own: f32) -> f32 {
  let most = team_max(thread, ordered(own));
  if (thread % TEAM == 0u) { peaks[thread / TEAM] = most; }
  workgroupBarrier();
  var total = peaks[0];
  for (var i = 1u; i < TEAMS; i++) { total = max(total, peaks[i]); }
  return unordered(total);
}

// Sums over the four threads of a position.
fn sum_four(own: vec4f) -> vec4f {
  let two = own + subgroupShuffleXor(own, 1u);
  return two + subgroupShuffleXor(two, 2u);
}

fn scaled(score: f32) -> f32 {
  let s = score * parameters.scale;
  if (parameters.cap > 0.0) { return tanh_of(s / parameters.cap) * parameters.cap; }
  return s;
}

// Where the keys of a thread's four positions of a tile are; behind the last one, that one again.
fn keys_of(tile: u32, run: u32, thread: u32, kv: u32) -> vec4u {
  var at: vec4u;
  for (var j = 0u; j < 4u; j++) {
    let n = min(thread / 4u + 64u * j, run - 1u);
    at[j] = (key_at(0u, tile + n) + kv * parameters.headWidth) / 4u;
  }
  return at;
}

fn score_four(at: vec4u, part: u32) -> vec4f {
  var score = vec4f(0.0);
  for (var i = part; i < parameters.headWidth / 4u; i += 4u) {
    let q = query[i];
    let a = quads[at.x + i];
    let b = quads[at.y + i];
    let c = quads[at.z + i];
    let d = quads[at.w + i];
    score += vec4f(dot(q, a), dot(q, b), dot(q, c), dot(q, d));
  }
  return sum_four(score);
}

// Values of a tile, weighted: every `shares`-th position from `share` on, four at a time.
fn mix(share: u32, shares: u32, run: u32, element: u32) -> vec4f {
  var mixed = vec4f(0.0);
  for (var n = share; n < run; n += 4u * shares) {
    let m = min(n + shares * vec4u(0u, 1u, 2u, 3u), vec4u(run - 1u));
    let a = quads[places[m.x] + element];
    let b = quads[places[m.y] + element];
    let c = quads[places[m.z] + element];
    let d = quads[places[m.w] + element];
    let w = vec4f(scores[m.x], scores[m.y], scores[m.z], scores[m.w]);
    let real = select(vec4f(0.0), w, n + shares * vec4u(0u, 1u, 2u, 3u) < vec4u(run));
    mixed += (real.x * a + real.y * b) + (real.z * c + real.w * d);
  }
  return mixed;
}

fn value_quad(at: u32) -> vec4f { return vec4f(slots[at], slots[at + 1u], slots[at + 2u], slots[at + 3u]); }

@compute @workgroup_size(256)
fn attend_step(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3u) {
  let head = group.x;
  let kv = head * parameters.kvHeads / parameters.heads;
  let isFirst = head == (kv * parameters.heads + parameters.kvHeads - 1u) / parameters.kvHeads;
  let position = position_of(0u);
  let width = parameters.headWidth;
  let values = parameters.valueWidth;
  var begin = 0u;
  if (parameters.window > 0u && position >= parameters.window) { begin = position + 1u - parameters.window; }
  let count = position - begin; // in the cache: the step's own position is in none that this workgroup can rely on
  let quad = thread % (MOST_HEAD / 4u);
  if (quad < width / 4u && thread < MOST_HEAD / 4u) { query[quad] = rotated_quad(parameters.x + head * width, quad, position); }
  if (quad < width / 4u && thread / (MOST_HEAD / 4u) == 1u) { key[quad] = rotated_quad(parameters.y + kv * width, quad, position); }
  let part = thread & 3u;
  let shares = THREADS / (values / 4u);
  let element = thread % (values / 4u);
  let share = thread / (values / 4u);
  let newValue = parameters.z + kv * values;
  workgroupBarrier();
  if (isFirst) {
    let keyTo = (key_at(0u, position) + kv * width) / 4u;
    let valueTo = (value_at(0u, position) + kv * values) / 4u;
    for (var i = thread; i < width / 4u; i += THREADS) { quads[keyTo + i] = key[i]; }
    for (var i = thread; i < values / 4u; i += THREADS) { quads[valueTo + i] = value_quad(newValue + 4u * i); }
  }
  var own = 0.0;
  for (var i = part; i < width / 4u; i += 4u) { own += dot(query[i], key[i]); }
  var most = scaled(sum_four(vec4f(own)).x);
  var total = 1.0;
  var mixed = vec4f(0.0);
  if (share == 0u) { mixed = value_quad(newValue + 4u * element); }
  for (var t = 0u; t < count; t += TILE) {
    let run = min(TILE, count - t);
    if (thread < run) { places[thread] = (value_at(0u, begin + t + thread) + kv * values) / 4u; }
    let four = score_four(keys_of(begin + t, run, thread, kv), part);
    scores[thread / 4u + 64u * part] = scaled(four[part]);
    workgroupBarrier();
    let score = select(-3.0e38, scores[thread], thread < run);
    let larger = max(most, largest_all(thread, score));
    let weight = select(0.0, exp_of(score - larger), thread < run);
    scores[thread] = weight;
    let shrink = exp_of(most - larger);
    total = total * shrink + sum_all(thread, weight);
    most = larger;
    mixed *= shrink;
    if (share < shares) { mixed += mix(share, shares, run, element); }
    workgroupBarrier();
  }
  sums[thread] = mixed;
  workgroupBarrier();
  if (thread < values / 4u) {
    var sum = vec4f(0.0);
    for (var s = 0u; s < shares; s++) { sum += sums[s * (values / 4u) + thread]; }
    sum /= total;
    let to = parameters.out + head * values + 4u * thread;
    for (var i = 0u; i < 4u; i++) { slots[to + i] = sum[i]; }
  }
}
