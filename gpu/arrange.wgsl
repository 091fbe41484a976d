// Placing a weight: blocks that lie side by side (`words`) become planes, one for every group of fields, so that vectors of
// 16 bytes are aligned. A thread writes one word of `result`.

// Of the uniform: blocks, bytes of a block, planes, words in all, then offset and bytes of every plane.
struct Planes {
  blocks: u32,
  block_bytes: u32,
  count: u32,
  words: u32,
  plane: array<vec4u, 2>,
}
@group(0) @binding(0) var<uniform> arrangement: Planes;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(4) var<storage, read_write> placed: array<u32>;

fn half_at(at: u32) -> u32 {
  var rest = at;
  for (var k = 0u; k < arrangement.count; k++) {
    let both = arrangement.plane[k >> 1u];
    let plane = select(both.xy, both.zw, (k & 1u) == 1u);
    let bytes = plane.y * arrangement.blocks;
    if (rest < bytes) {
      let byte = (rest / plane.y) * arrangement.block_bytes + plane.x + rest % plane.y;
      return (blocks[byte >> 2u] >> (8u * (byte & 2u))) & 0xffffu;
    }
    rest -= bytes;
  }
  return 0u;
}

@compute @workgroup_size(256)
fn arrange(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let word = (group.x + group.y * groups.x) * 256u + thread;
  if (word >= arrangement.words) { return; }
  placed[word] = half_at(4u * word) | (half_at(4u * word + 2u) << 16u);
}
