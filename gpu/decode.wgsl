// Blocks to binary32, four elements a thread: scale·value - low. A type gives values4 (four signed bytes) and unit_of (scale
// and low of the unit that a quad is in).

@group(0) @binding(4) var<storage, read_write> decoded: array<vec4u>;

@compute @workgroup_size(256)
fn dequantize(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let quad = index_of(group, groups) * THREADS + thread;
  if (quad >= parameters.count / 4u) { return; }
  let block = quad / BLOCK_QUADS;
  wild = false;
  decoded[quad] = bitcast<vec4u>(decode4(block, quad % BLOCK_QUADS));
  if (wild) { flag_block(block); }
}

fn decode4(block: u32, quad: u32) -> vec4f {
  let unit = unit_of(block, quad);
  let v = numbers(values4(block, quad));
  return vec4f(product(v.x, unit.x), product(v.y, unit.x), product(v.z, unit.x), product(v.w, unit.x)) - unit.y;
}

// Rows of a table, times `gain`: row i for the i-th number from word xAt of `values`.
@compute @workgroup_size(256)
fn embed(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let quad = index_of(group, groups) * THREADS + thread;
  let quads = parameters.width / 4u;
  if (quad >= parameters.rows * quads) { return; }
  let at = parameters.xAt + quad / quads;
  let source = values[at >> 2u][at & 3u] * quads + quad % quads;
  let v = decode4(source / BLOCK_QUADS, source % BLOCK_QUADS);
  let factor = bitcast<f32>(parameters.gain);
  decoded[parameters.outAt / 4u + quad] = bitcast<vec4u>(
    vec4f(product(v.x, factor), product(v.y, factor), product(v.z, factor), product(v.w, factor)),
  );
}
