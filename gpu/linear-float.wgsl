// Weights that are decoded to binary32 (HQQ, FP8 and unquantized ones) times activations as they are. A team of 32 threads
// takes one output; each thread takes every 32nd element. A type gives value_at.

@group(0) @binding(1) var<storage, read> activations: array<f32>;
@group(0) @binding(4) var<storage, read_write> sums: array<f32>; // rows × outputs

@compute @workgroup_size(128)
fn matmul(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let output = output_of(thread, index_of(group, groups));
  let first = group.z * MOST_ROWS;
  let rows = min(MOST_ROWS, parameters.rows - first);
  var own: array<f32, MOST_ROWS>;
  if (output < parameters.outputs) {
    for (var i = thread % TEAM; i < parameters.width; i += TEAM) {
      let w = value_at(output * parameters.width + i);
      for (var r = 0u; r < rows; r++) { own[r] += w * activations[(first + r) * parameters.width + i]; }
    }
  }
  put_sums(thread, &own, output, first, every_row(rows));
}

// The same in running models: activations are in `sums` too, from xAt on. With experts (share > 0) only the rows that chose
// this one.
@compute @workgroup_size(128)
fn matmul_slots(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let output = output_of(thread, index_of(group, groups));
  let first = group.z * MOST_ROWS;
  let rows = min(MOST_ROWS, parameters.rows - first);
  let width = parameters.width;
  var own: array<f32, MOST_ROWS>;
  var chosen = every_row(rows);
  let share = max(1u, parameters.share);
  if (parameters.share > 0u) { chosen = chosen_rows(first, rows); }
  if (output < parameters.outputs && chosen > 0u) {
    for (var i = thread % TEAM; i < width; i += TEAM) {
      let w = value_at(output * width + i);
      for (var r = 0u; r < rows; r++) { own[r] += w * sums[parameters.xAt + ((first + r) / share) * width + i]; }
    }
  }
  put_sums(thread, &own, output, first, chosen);
}

// Rows of a table, times `gain`: row i for the i-th number from word xAt of `values`.
@compute @workgroup_size(256)
fn embed(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = index_of(group, groups) * 256u + thread;
  if (i >= parameters.rows * parameters.width) { return; }
  let at = parameters.xAt + i / parameters.width;
  let row = values[at >> 2u][at & 3u];
  let value = value_at(row * parameters.width + i % parameters.width);
  result[parameters.outAt + i] = bitcast<u32>(product(value, bitcast<f32>(parameters.gain)));
}
