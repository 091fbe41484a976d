// Canaries: each thread does one of everything that kernels rely on, on three numbers of its own (`values`), and writes the
// bits down for the host to compare.

const CANARY_WORDS = 10u;

@compute @workgroup_size(64)
fn sing(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let i = index_of(group, groups) * 64u + thread;
  if (i >= parameters.count) { return; }
  let a = bitcast<f32>(values[i].x);
  let b = bitcast<f32>(values[i].y);
  let c = bitcast<f32>(values[i].z);
  let at = CANARY_WORDS * i;
  result[at] = bitcast<u32>(product(a, b) + c);
  result[at + 1u] = bitcast<u32>(product(a, a) - product(b, c));
  result[at + 2u] = bitcast<u32>(opaque(a + b) - a);
  wild = false;
  let q = quotient(a, b);
  result[at + 3u] = select(bitcast<u32>(q), 0xffffffffu, wild);
  wild = false;
  let r = root(abs(a));
  result[at + 4u] = select(bitcast<u32>(r), 0xffffffffu, wild);
  result[at + 5u] = half_from(a * 1024.0);
  result[at + 6u] = bitcast<u32>(from_half(values[i].w));
  result[at + 7u] = bitcast<u32>(nearest_int(product(c, 512.0)));
  result[at + 8u] = bitcast<u32>(round_away(product(c, 512.0)));
  // A subnormal number times 1, which adapters that flush make 0.
  result[at + 9u] = bitcast<u32>(product(bitcast<f32>(values[i].x & 0x807fffffu), opaque(1.0)));
}
