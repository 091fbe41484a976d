// Rotation, cache and attention of a step of one token, in one dispatch: a workgroup takes a query head. Its key head is
// rotated by every workgroup that needs it, and stored by the first. Heads are whole vectors of four.

const THREADS = 256u;
const MOST_HEAD = 256u; // elements of a head

@group(0) @binding(5) var<storage, read_write> quads: array<vec4f>; // the cache

var<workgroup> query: array<vec4f, MOST_HEAD / 4u>;
var<workgroup> key: array<vec4f, MOST_HEAD / 4u>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> parts: array<f32, THREADS>;

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
  // Threads share the elements of a value: each takes every `shares`-th position.
  let shares = max(1u, THREADS / values);
  let element = thread % values;
  let share = thread / values;
  var most = -3.0e38;
  var total = 0.0;
  var mixed = 0.0;
  let count = position + 1u - begin;
  for (var t = 0u; t < count; t += THREADS) {
    let run = min(THREADS, count - t);
    var score = -3.0e38;
    if (thread < run) {
      let other = begin + t + thread;
      let at = (key_at(0u, other) + kv * width) / 4u;
      score = 0.0;
      for (var i = 0u; i < width / 4u; i++) {
        var k = key[i];
        if (other != position) { k = quads[at + i]; }
        score += dot(query[i], k);
      }
      score *= parameters.scale;
      if (parameters.cap > 0.0) { score = tanh_of(score / parameters.cap) * parameters.cap; }
    }
    let larger = max(most, largest_all(thread, score));
    let weight = select(0.0, exp_of(score - larger), thread < run);
    scores[thread] = weight;
    let shrink = exp_of(most - larger);
    total = total * shrink + sum_all(thread, weight);
    most = larger;
    mixed *= shrink;
    if (share < shares) {
      for (var n = share; n < run; n += shares) {
        let other = begin + t + n;
        var value = slots[v + element];
        if (other != position) {
          let at = value_at(0u, other) + kv * values + element;
          value = quads[at / 4u][at & 3u];
        }
        mixed += scores[n] * value;
      }
    }
    workgroupBarrier();
  }
  scores[thread] = mixed;
  workgroupBarrier();
  if (thread < values) {
    var sum = 0.0;
    for (var s = 0u; s < shares; s++) { sum += scores[s * values + thread]; }
    slots[parameters.out + head * values + thread] = sum / total;
  }
}
