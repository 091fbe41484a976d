// Norms: a workgroup takes a run of `width` elements.

const THREADS = 64u;
var<workgroup> partial: array<f32, THREADS>;

// The sum over all threads, the same way every time.
fn sum_all(thread: u32, own: f32) -> f32 {
  partial[thread] = own;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < THREADS; i++) { sum += partial[i]; }
  workgroupBarrier();
  return sum;
}

@compute @workgroup_size(64)
fn rms_norm(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let run = index_of(group, groups);
  if (run >= parameters.rows) { return; }
  let width = parameters.width;
  let begin = parameters.x + run * width;
  var squares = 0.0;
  for (var i = thread; i < width; i += THREADS) { squares += slots[begin + i] * slots[begin + i]; }
  let mean = sum_all(thread, squares) / f32(width);
  let factor = 1.0 / sqrt(mean + parameters.epsilon);
  let to = parameters.out + run * width;
  for (var i = thread; i < width; i += THREADS) { slots[to + i] = (slots[begin + i] * factor) * first[i]; }
}

@compute @workgroup_size(64)
fn layer_norm(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let run = index_of(group, groups);
  if (run >= parameters.rows) { return; }
  let width = parameters.width;
  let begin = parameters.x + run * width;
  var own = 0.0;
  for (var i = thread; i < width; i += THREADS) { own += slots[begin + i]; }
  let mean = sum_all(thread, own) / f32(width);
  var squares = 0.0;
  for (var i = thread; i < width; i += THREADS) {
    let c = slots[begin + i] - mean;
    squares += c * c;
  }
  let variance = sum_all(thread, squares) / f32(width);
  let factor = 1.0 / sqrt(variance + parameters.epsilon);
  let to = parameters.out + run * width;
  for (var i = thread; i < width; i += THREADS) {
    slots[to + i] = ((slots[begin + i] - mean) * factor) * first[i] + second[i];
  }
}
