// Blocks without a search: the scale follows from the largest values. A type, or what it shares with others, gives part_of
// (what four values say about the scale), merge, head_of and code_of. One thread a block works out its head: when all did,
// which saves a barrier, an H100 took 1.7 times as long.

var<workgroup> seconds: array<u32, THREADS>; // the second word of every thread's part; the first waits in `codes`
var<workgroup> heads: array<vec4u, TILE_BLOCKS>;

@compute @workgroup_size(256)
fn quantize(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let tile = index_of(group, groups);
  let quad = tile * THREADS + thread;
  let blocks = parameters.count / BLOCK_ELEMENTS;
  var x = vec4u(0u);
  if (quad < parameters.count / 4u) { x = values[quad]; }
  report_non_finite(x, 4u * quad);
  let own = part_of(x);
  codes[thread] = own.x;
  seconds[thread] = own.y;
  workgroupBarrier();
  if (thread < TILE_BLOCKS) {
    let first = thread * BLOCK_QUADS;
    var whole = vec2u(codes[first], seconds[first]);
    for (var i = 1u; i < BLOCK_QUADS; i++) { whole = merge(whole, vec2u(codes[first + i], seconds[first + i])); }
    wild = false;
    heads[thread] = head_of(whole);
    let block = tile * TILE_BLOCKS + thread;
    if (wild & (block < blocks)) { flag_block(block); }
  }
  workgroupBarrier();
  let head = heads[thread / BLOCK_QUADS];
  let v = bitcast<vec4f>(x);
  wild = false;
  codes[thread] = pack(vec4i(code_of(v.x, head), code_of(v.y, head), code_of(v.z, head), code_of(v.w, head)));
  let block = tile * TILE_BLOCKS + thread / BLOCK_QUADS;
  if (wild & (block < blocks)) { flag_block(block); }
  workgroupBarrier();
  write_tile(tile, thread);
}

// 1 / d, or 0 for 0.
fn inverse_of(d: f32) -> f32 {
  let none = magnitude(d) == 0u;
  return select(quotient(1.0, select(d, 1.0, none)), 0.0, none);
}

// A scale from a value outside of this range is wild.
fn notice_tame(v: f32) { notice_range(v, TAME_LEAST, TAME_MOST); }

// The part of types that look at the value of largest magnitude, the first of several: its bits.
fn peak_of(x: vec4u) -> vec2u {
  var peak = x.x;
  for (var i = 1u; i < 4u; i++) { peak = larger(peak, x[i]); }
  return vec2u(peak, 0u);
}

fn larger(a: u32, b: u32) -> u32 { return select(a, b, (b & 0x7fffffffu) > (a & 0x7fffffffu)); }
