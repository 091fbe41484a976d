// The K types: 256 elements, whose units' scales share a scale. After the search a thread settles the scales of a block,
// then four elements a thread are coded anew under the decoded scales. A type gives settle_block, unit_scale and recode.

const HEAD_WORDS = 10u; // d | dmin << 16, up to 32 bytes of scale codes, whether all codes are 0
const UNITS = 256u / SUB;

var<private> head: array<u32, HEAD_WORDS>;
var<private> first_block: u32; // of the tile

@compute @workgroup_size(64)
fn settle(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let block = index_of(group, groups) * 64u + thread;
  if (block >= parameters.count / BLOCK_ELEMENTS) { return; }
  wild = false;
  for (var i = 0u; i < HEAD_WORDS; i++) { head[i] = 0u; }
  settle_block(block * UNITS);
  for (var i = 0u; i < HEAD_WORDS; i++) { scratch[parameters.headsAt + HEAD_WORDS * block + i] = head[i]; }
  if (wild) { flag_block(block); }
}

fn unit_word(unit: u32, i: u32) -> f32 { return bitcast<f32>(scratch[UNIT_WORDS * unit + i]); }

fn set_code(j: u32, code: i32) { head[1u + (j >> 2u)] |= (u32(code) & 255u) << (8u * (j & 3u)); }

@compute @workgroup_size(256)
fn assemble(
  @builtin(local_invocation_index) thread: u32,
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
) {
  let tile = index_of(group, groups);
  first_block = tile * TILE_BLOCKS;
  let quad = tile * THREADS + thread;
  if (quad < parameters.count / 4u) {
    let block = thread / BLOCK_QUADS;
    let scale = unit_scale(block, (thread % BLOCK_QUADS) * 4u / SUB);
    if (head_word(block, 9u) != 0u) {
      codes[thread] = 0u;
    } else if (magnitude(scale.x) == 0u) {
      codes[thread] = scratch[parameters.codesAt + quad]; // the search's
    } else {
      let v = bitcast<vec4f>(values[quad]);
      wild = magnitude(scale.x) >= INFINITE; // a scale that binary16 cannot hold
      codes[thread] = pack(vec4i(recode(v.x, scale), recode(v.y, scale), recode(v.z, scale), recode(v.w, scale)));
      if (wild) { flag_block(first_block + block); }
    }
  }
  workgroupBarrier();
  write_tile(tile, thread);
}

fn head_word(block: u32, i: u32) -> u32 {
  return scratch[parameters.headsAt + HEAD_WORDS * (first_block + block) + i];
}

// Scale code j of a block of the tile.
fn scale_code(block: u32, j: u32) -> u32 { return (head_word(block, 1u + (j >> 2u)) >> (8u * (j & 3u))) & 255u; }

// clamp(round((x + min) / scale), 0, most)
fn recode_affine(v: f32, scale: vec2f, most: i32) -> i32 {
  let q = quotient(v + scale.y, scale.x);
  if (mistralrs) { return i32(round_away(clamp(q, 0.0, f32(most)))); }
  return clamp(nearest_int(q), 0, most);
}

// clamp(round(x / scale), -n, n - 1) + n
fn recode_symmetric(v: f32, scale: f32, n: i32) -> i32 {
  let q = quotient(v, scale);
  if (mistralrs) { return i32(round_away(clamp(q, f32(-n), f32(n - 1)))) + n; }
  return clamp(nearest_int(q), -n, n - 1) + n;
}

// Two bits of every code, 256 codes to 64 bytes.
fn pairs_half(first: u32, h: u32) -> u32 {
  let at = first + 32u * (h >> 4u) + ((h & 15u) >> 1u);
  var word = 0u;
  for (var k = 0u; k < 4u; k++) { word |= (codes[at + 8u * k] & 0x03030303u) << (2u * k); }
  return word >> (16u * (h & 1u));
}

// Bit `bit` of every code: bit k of byte l is that of element 32k + l.
fn planes_half(first: u32, h: u32, bit: u32) -> u32 {
  var word = 0u;
  for (var k = 0u; k < 8u; k++) { word |= bit_of_codes(first + 8u * k + (h >> 1u), bit) << k; }
  return word >> (16u * (h & 1u));
}

// The scale of largest magnitude with its sign, the first of several.
fn peak_scale(unit: u32) -> f32 {
  var peak = 0.0;
  for (var j = 0u; j < UNITS; j++) {
    let scale = unit_word(unit + j, 0u);
    if (magnitude(scale) > magnitude(peak)) { peak = scale; }
  }
  return peak;
}
