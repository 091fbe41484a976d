// Activations in the type that a weight's dot product wants: codes, four to a word, and for every 32 of them their scale and
// what a minimum is multiplied by. The same codes and scales as blocks have; a type gives side_of.

@compute @workgroup_size(256)
fn prepare(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let tile = index_of(group, groups);
  let quad = tile * THREADS + thread;
  var x = vec4u(0u);
  if (quad < parameters.count / 4u) { x = values[quad]; }
  let own = part_of(x);
  codes[thread] = own.x;
  seconds[thread] = own.y;
  workgroupBarrier();
  if (thread < TILE_BLOCKS) {
    let first = thread * BLOCK_QUADS;
    var whole = vec2u(codes[first], seconds[first]);
    for (var i = 1u; i < BLOCK_QUADS; i++) { whole = merge(whole, vec2u(codes[first + i], seconds[first + i])); }
    heads[thread] = head_of(whole);
  }
  workgroupBarrier();
  let head = heads[thread / BLOCK_QUADS];
  let v = bitcast<vec4f>(x);
  let four = pack(vec4i(code_of(v.x, head), code_of(v.y, head), code_of(v.z, head), code_of(v.w, head)));
  codes[thread] = four;
  workgroupBarrier();
  if (quad >= parameters.count / 4u) { return; }
  result[quad] = four;
  if ((thread & 7u) == 0u) {
    let side = side_of(head, thread);
    scratch[quad / 4u] = bitcast<u32>(side.x);
    scratch[quad / 4u + 1u] = bitcast<u32>(side.y);
  }
}

// The sum of the 32 codes from `first` on.
fn sum_of_codes(first: u32) -> i32 {
  var sum = 0;
  for (var i = 0u; i < 8u; i++) { sum += dot4I8Packed(codes[first + i], 0x01010101u); }
  return sum;
}
