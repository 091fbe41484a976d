// Blocks of 32 under importance: codes and fields were found by the search.

const SUB = 32u;

fn weigh_unit(first: u32) { weigh_by_importance(first, 1.0); }

@compute @workgroup_size(256)
fn assemble(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let tile = index_of(group, groups);
  let quad = tile * THREADS + thread;
  if (quad < parameters.count / 4u) { codes[thread] = scratch[parameters.codesAt + quad]; }
  if (thread < TILE_BLOCKS) {
    let unit = UNIT_WORDS * (tile * TILE_BLOCKS + thread);
    let scale = bitcast<f32>(scratch[unit]);
    let low = bitcast<f32>(scratch[unit + 1u]);
    heads[thread] = vec4u(0u, 0u, half_from(scale), half_from(low));
  }
  workgroupBarrier();
  write_tile(tile, thread);
}
