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
  let output = index_of(group, groups) * TEAMS + thread / TEAM;
  let first = group.z * MOST_ROWS;
  let rows = min(MOST_ROWS, parameters.rows - first);
  var own: array<f32, MOST_ROWS>;
  if (output < parameters.outputs) {
    for (var i = thread % TEAM; i < parameters.width; i += TEAM) {
      let w = value_at(output * parameters.width + i);
      for (var r = 0u; r < rows; r++) { own[r] += w * activations[(first + r) * parameters.width + i]; }
    }
  }
  for (var r = 0u; r < MOST_ROWS; r++) {
    let sum = sum_team(thread, own[r]);
    if (thread % TEAM == 0u && output < parameters.outputs && r < rows) {
      sums[(first + r) * parameters.outputs + output] = sum;
    }
  }
}
