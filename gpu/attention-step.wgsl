// Rotation, cache and attention of a step of one token, in one dispatch: a workgroup takes a query head. Its key head is
// rotated by every workgroup that needs it, and stored by the first. Heads are whole vectors of four.

const THREADS = 256u;
const MOST_HEAD = 256u; // elements of a head

@group(0) @binding(5) var<storage, read_write> quads: array<vec4f>; // the cache

var<workgroup> query: array<vec4f, MOST_HEAD / 4u>;
var<workgroup> key: array<vec4f, MOST_HEAD / 4u>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> sums: array<vec4f, THREADS>;
var<workgroup> parts: array<f32, THREADS>;
var<workgroup> places: array<u32, THREADS>; // of values

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

// The sum, or the largest, of all threads; the same way every time.
fn sum_all(thread: u32, own: f32) -> f32 {
  let sum = subgroupAdd(own);
  if (thread % 32u == 0u) { parts[thread / 32u] = sum; }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < THREADS / 32u; i++) { total += parts[i]; }
  workgroupBarrier();
  return total;
}

fn largest_all(thread: u32, own: f32) -> f32 {
  let most = subgroupMax(own);
  if (thread % 32u == 0u) { parts[thread / 32u] = most; }
  workgroupBarrier();
  var total = parts[0];
  for (var i = 1u; i < THREADS / 32u; i++) { total = max(total, parts[i]); }
  workgroupBarrier();
  return total;
}

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
  for (var i = thread; i < width; i += THREADS) {
    query[i / 4u][i & 3u] = rotated(parameters.x + head * width, i, position);
    key[i / 4u][i & 3u] = rotated(parameters.y + kv * width, i, position);
  }
  workgroupBarrier();
  let newKey = key_at(0u, position) + kv * width;
  let newValue = value_at(0u, position) + kv * values;
  let v = parameters.z + kv * values;
  if (isFirst) {
    for (var i = thread; i < width / 4u; i += THREADS) { quads[newKey / 4u + i] = key[i]; }
    for (var i = thread; i < values / 4u; i += THREADS) {
      quads[newValue / 4u + i] = vec4f(slots[v + 4u * i], slots[v + 4u * i + 1u], slots[v + 4u * i + 2u], slots[v + 4u * i + 3u]);
    }
  }
  // Threads share a value, four elements each: of positions they take every `shares`-th.
  let shares = THREADS / (values / 4u);
  let element = thread % (values / 4u);
  let share = thread / (values / 4u);
  var most = -3.0e38;
  var total = 0.0;
  var mixed = vec4f(0.0);
  let count = position + 1u - begin;
  for (var t = 0u; t < count; t += THREADS) {
    let run = min(THREADS, count - t);
    var score = -3.0e38;
    if (thread < run) {
      let other = begin + t + thread;
      score = 0.0;
      if (other == position) {
        for (var i = 0u; i < width / 4u; i++) { score += dot(query[i], key[i]); }
      } else {
        let at = (key_at(0u, other) + kv * width) / 4u;
        for (var i = 0u; i < width / 4u; i++) { score += dot(query[i], quads[at + i]); }
      }
      score *= parameters.scale;
      if (parameters.cap > 0.0) { score = tanh_of(score / parameters.cap) * parameters.cap; }
      places[thread] = (value_at(0u, other) + kv * values) / 4u;
    }
    let larger = max(most, largest_all(thread, score));
    let weight = select(0.0, exp_of(score - larger), thread < run);
    scores[thread] = weight;
    let shrink = exp_of(most - larger);
    total = total * shrink + sum_all(thread, weight);
    most = larger;
    mixed *= shrink;
    // The position's own value is in no cache yet that this workgroup can rely on.
    let cached = select(run, run - 1u, t + run == count);
    if (share < shares) {
      for (var n = share; n < cached; n += shares) { mixed += scores[n] * quads[places[n] + element]; }
      if (share == 0u && cached < run) {
        let at = v + 4u * element;
        mixed += scores[cached] * vec4f(slots[at], slots[at + 1u], slots[at + 2u], slots[at + 3u]);
      }
    }
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
