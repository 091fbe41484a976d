// Attention over a cache in blocks. A workgroup takes one query head of one row: runs of THREADS positions are scored, one a
// thread, and their values mixed in; what was mixed before shrinks when a larger score turns up.

const THREADS = 64u;
const MOST_HEAD = 512u; // elements of a head

var<workgroup> query: array<f32, MOST_HEAD>;
var<workgroup> mixed: array<f32, MOST_HEAD>;
var<workgroup> scores: array<f32, THREADS>;

// Writes keys and values of the step's rows to their places.
@compute @workgroup_size(64)
fn store(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = index_of(group, groups) * THREADS + thread;
  let keys = parameters.kvHeads * parameters.headWidth;
  let all = keys + parameters.kvHeads * parameters.valueWidth;
  let row = i / all;
  let column = i % all;
  if (row >= parameters.tokens) { return; }
  let position = position_of(row);
  if (column < keys) {
    cache[key_at(row, position) + column] = slots[parameters.y + row * keys + column];
  } else {
    let values = all - keys;
    cache[value_at(row, position) + column - keys] = slots[parameters.z + row * values + column - keys];
  }
}

@compute @workgroup_size(64)
fn attend(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
) {
  let head = group.x;
  let row = group.y + group.z * 32768u;
  if (row >= parameters.tokens) { return; }
  let kv = head * parameters.kvHeads / parameters.heads;
  let position = position_of(row);
  var begin = 0u;
  if (parameters.window > 0u && position >= parameters.window) { begin = position + 1u - parameters.window; }
  let width = parameters.headWidth;
  let values = parameters.valueWidth;
  let asked = parameters.x + (row * parameters.heads + head) * width;
  for (var i = thread; i < width; i += THREADS) { query[i] = slots[asked + i]; }
  for (var i = thread; i < values; i += THREADS) { mixed[i] = 0.0; }
  workgroupBarrier();
  var most = -3.0e38;
  var total = 0.0;
  let count = position + 1u - begin;
  for (var t = 0u; t < count; t += THREADS) {
    let run = min(THREADS, count - t);
    var score = -3.0e38;
    if (thread < run) {
      let key = key_at(row, begin + t + thread) + kv * width;
      score = 0.0;
      for (var i = 0u; i < width; i++) { score += query[i] * cache[key + i]; }
      score *= parameters.scale;
      if (parameters.cap > 0.0) { score = tanh_of(score / parameters.cap) * parameters.cap; }
    }
    scores[thread] = score;
    workgroupBarrier();
    var larger = most;
    for (var i = 0u; i < run; i++) { larger = max(larger, scores[i]); }
    workgroupBarrier();
    scores[thread] = select(0.0, exp_of(score - larger), thread < run);
    workgroupBarrier();
    let shrink = exp_of(most - larger);
    var added = 0.0;
    for (var i = 0u; i < run; i++) { added += scores[i]; }
    total = total * shrink + added;
    most = larger;
    for (var i = thread; i < values; i += THREADS) {
      var sum = mixed[i] * shrink;
      for (var n = 0u; n < run; n++) { sum += scores[n] * cache[value_at(row, begin + t + n) + kv * values + i]; }
      mixed[i] = sum;
    }
    workgroupBarrier();
  }
  let to = parameters.out + (row * parameters.heads + head) * values;
  for (var i = thread; i < values; i += THREADS) { slots[to + i] = mixed[i] / total; }
}
