// Choosing experts, as src/backends/route.ts does it. A workgroup of one thread takes a row.

const MOST_EXPERTS = 512u;
var<workgroup> scores: array<f32, MOST_EXPERTS>;
var<workgroup> choice: array<f32, MOST_EXPERTS>;
var<workgroup> open: array<u32, MOST_EXPERTS>; // candidates that are left
var<workgroup> ratings: array<f32, MOST_EXPERTS>;

const SIGMOID = 1u;
const BIASED = 2u;
const NORMALIZED = 4u;
const TWO_LARGEST = 8u;

// The largest open value from `begin` to `to`, the lower index where two are equal.
fn largest_open(begin: u32, to: u32) -> u32 {
  var best = to;
  for (var i = begin; i < to; i++) {
    if (open[i] == 1u && (best == to || choice[i] > choice[best])) { best = i; }
  }
  return min(best, to - 1u);
}

// Softmax of the scores, in place.
fn soften(count: u32) {
  var most = scores[0];
  for (var i = 1u; i < count; i++) { most = max(most, scores[i]); }
  var sum = 0.0;
  for (var i = 0u; i < count; i++) {
    scores[i] = exp_of(scores[i] - most);
    sum += scores[i];
  }
  for (var i = 0u; i < count; i++) { scores[i] /= sum; }
}

// Leaves only experts of the best groups open.
fn choose_groups(experts: u32) {
  let size = experts / parameters.groups;
  for (var g = 0u; g < parameters.groups; g++) {
    let best = largest_open(g * size, (g + 1u) * size);
    ratings[g] = choice[best];
    if ((parameters.flags & TWO_LARGEST) != 0u) {
      open[best] = 0u;
      ratings[g] += choice[largest_open(g * size, (g + 1u) * size)];
      open[best] = 1u;
    }
  }
  for (var i = 0u; i < experts; i++) { open[i] = 0u; }
  for (var n = 0u; n < parameters.groupsChosen; n++) {
    var best = parameters.groups;
    for (var g = 0u; g < parameters.groups; g++) {
      if (open[g * size] == 0u && (best == parameters.groups || ratings[g] > ratings[best])) { best = g; }
    }
    for (var i = 0u; i < size; i++) { open[min(best, parameters.groups - 1u) * size + i] = 1u; }
  }
}

@compute @workgroup_size(1)
fn route_scores(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = index_of(group, groups);
  if (row >= parameters.rows) { return; }
  let experts = parameters.width;
  let sigmoid = (parameters.flags & SIGMOID) != 0u;
  for (var i = 0u; i < experts; i++) {
    let x = slots[parameters.x + row * experts + i];
    scores[i] = x;
    if (sigmoid) { scores[i] = sigmoid_of(x); }
    open[i] = 1u;
  }
  if (!sigmoid) { soften(experts); }
  for (var i = 0u; i < experts; i++) {
    choice[i] = scores[i];
    if ((parameters.flags & BIASED) != 0u) { choice[i] += first[i]; }
  }
  if (parameters.groups > 0u) { choose_groups(experts); }
  let to = row * parameters.outWidth;
  var sum = 0.0;
  for (var j = 0u; j < parameters.outWidth; j++) {
    let best = largest_open(0u, experts);
    open[best] = 0u;
    slots[parameters.out + to + j] = f32(best);
    slots[parameters.z + to + j] = scores[best];
    sum += scores[best];
  }
  sum += parameters.epsilon;
  for (var j = 0u; j < parameters.outWidth; j++) {
    var weight = slots[parameters.z + to + j];
    if ((parameters.flags & NORMALIZED) != 0u) { weight /= sum; }
    slots[parameters.z + to + j] = weight * parameters.scale;
  }
}

@compute @workgroup_size(1)
fn route_sparsely(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = index_of(group, groups);
  if (row >= parameters.rows) { return; }
  let experts = parameters.width;
  for (var i = 0u; i < experts; i++) {
    choice[i] = slots[parameters.x + row * experts + i];
    open[i] = 1u;
  }
  for (var j = 0u; j < parameters.outWidth; j++) {
    let best = largest_open(0u, experts);
    let top = choice[best];
    var sum = 0.0;
    for (var i = 0u; i < experts; i++) {
      let far = (top - choice[i]) / max(abs(choice[i]), top) > parameters.scale;
      if (open[i] == 1u && !far) { sum += exp_of(choice[i] - top); }
    }
    open[best] = 0u;
    slots[parameters.out + row * parameters.outWidth + j] = f32(best);
    slots[parameters.z + row * parameters.outWidth + j] = 1.0 / sum;
  }
}
