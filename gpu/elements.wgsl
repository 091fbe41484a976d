// Operations element by element, and those that move elements. A thread takes one of `count`.

fn element_of(thread: u32, group: vec3u, groups: vec3u) -> u32 { return index_of(group, groups) * 64u + thread; }

@compute @workgroup_size(64)
fn gate(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  slots[parameters.out + i] = activate_one(parameters.activation, slots[parameters.x + i]) * slots[parameters.y + i];
}

@compute @workgroup_size(64)
fn activate(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  slots[parameters.out + i] = activate_one(parameters.activation, slots[parameters.x + i]);
}

@compute @workgroup_size(64)
fn add(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  slots[parameters.out + i] = slots[parameters.x + i] + slots[parameters.y + i] * parameters.scale;
}

@compute @workgroup_size(64)
fn scale(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  slots[parameters.out + i] = slots[parameters.x + i] * parameters.scale;
}

@compute @workgroup_size(64)
fn softcap(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  slots[parameters.out + i] = tanh_of(slots[parameters.x + i] / parameters.cap) * parameters.cap;
}

// `first` is added to every row.
@compute @workgroup_size(64)
fn add_bias(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  slots[parameters.out + i] += first[i % parameters.width];
}

// Runs of `width` columns, `heads` of them in a row.
@compute @workgroup_size(64)
fn copy(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  let each = parameters.heads * parameters.width;
  let row = i / each;
  let n = (i % each) / parameters.width;
  let column = i % parameters.width;
  let begin = row * parameters.headWidth + parameters.xStart + n * parameters.xStride + column;
  let to = row * parameters.outWidth + parameters.outStart + n * parameters.outStride + column;
  slots[parameters.out + to] = slots[parameters.x + begin];
}

@compute @workgroup_size(64)
fn select_rows(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  let row = output_row(i / parameters.width);
  slots[parameters.out + i] = slots[parameters.x + row * parameters.width + i % parameters.width];
}

// Rows of a token, `heads` of them, weighed and added.
@compute @workgroup_size(64)
fn combine(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  let row = i / parameters.width;
  let column = i % parameters.width;
  var sum = 0.0;
  for (var j = 0u; j < parameters.heads; j++) {
    let ranked = row * parameters.heads + j;
    sum += slots[parameters.y + ranked] * slots[parameters.x + ranked * parameters.width + column];
  }
  slots[parameters.out + i] = sum;
}

const INTERLEAVED = 1u;
const LONG = 2u;

// One pair of elements, in place. `first` and `second` have cosine and sine of every pair, row by row.
@compute @workgroup_size(64)
fn rope(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = element_of(thread, group, groups);
  if (i >= parameters.count) { return; }
  let pairs = parameters.width;
  let pair = i % pairs;
  let head = i / pairs;
  let row = head / parameters.heads;
  let interleaved = (parameters.flags & INTERLEAVED) != 0u;
  let at = parameters.x + head * parameters.headWidth + parameters.start + select(pair, 2u * pair, interleaved);
  let other = at + select(pairs, 1u, interleaved);
  let angle = 2u * (position_of(row) * pairs + pair);
  var turn = vec2f(0.0);
  if ((parameters.flags & LONG) != 0u && call_length_of(row) > parameters.beyond) {
    turn = vec2f(second[angle], second[angle + 1u]);
  } else {
    turn = vec2f(first[angle], first[angle + 1u]);
  }
  let a = slots[at];
  let b = slots[other];
  slots[at] = a * turn.x - b * turn.y;
  slots[other] = b * turn.x + a * turn.y;
}
