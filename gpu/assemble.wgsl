// The last step of every block type: four elements a thread are coded, then the workgroup writes its blocks side by side.
// A type gives BLOCK_ELEMENTS and BLOCK_BYTES, head_at (what a block's codes need), code_of and half_at.

const THREADS = 256u;
const BLOCK_QUADS = BLOCK_ELEMENTS / 4u;
const TILE_BLOCKS = THREADS / BLOCK_QUADS;
const TILE_WORDS = TILE_BLOCKS * BLOCK_BYTES / 4u;

var<workgroup> codes: array<u32, THREADS>; // four codes to a word

// A byte per code.
fn pack(c: vec4i) -> u32 { return pack4xU8(bitcast<vec4u>(c)); }

// Writes the tile's blocks, half a word at a time because blocks have an even number of bytes.
fn write_tile(tile: u32, thread: u32) {
  let total = (parameters.count / BLOCK_ELEMENTS * BLOCK_BYTES + 3u) / 4u;
  for (var w = thread; w < TILE_WORDS; w += THREADS) {
    let at = tile * TILE_WORDS + w;
    if (at >= total) { return; }
    result[at] = tile_half(2u * w) | (tile_half(2u * w + 1u) << 16u);
  }
}

fn tile_half(at: u32) -> u32 {
  let block = at / (BLOCK_BYTES / 2u);
  return half_at(block, at % (BLOCK_BYTES / 2u)) & 0xffffu;
}

// Half h of a run of codes, a byte each.
fn code_half(first: u32, h: u32) -> u32 { return codes[first + (h >> 1u)] >> (16u * (h & 1u)); }

// Half h of a run of nibbles: low ones from the run at `low`, high ones from the run at `high`.
fn nibble_half(low: u32, high: u32, h: u32) -> u32 {
  let word = (codes[low + (h >> 1u)] & 0x0f0f0f0fu) | ((codes[high + (h >> 1u)] & 0x0f0f0f0fu) << 4u);
  return word >> (16u * (h & 1u));
}

// One bit of every code of four, gathered in bits 0, 8, 16, 24.
fn bit_of_codes(at: u32, bit: u32) -> u32 { return (codes[at] >> bit) & 0x01010101u; }

// The fifth bits of 32 codes; bit j is that of code j.
fn fifth_bits(first: u32) -> u32 {
  var bits = 0u;
  for (var k = 0u; k < 8u; k++) {
    let four = bit_of_codes(first + k, 4u);
    bits |= ((four | (four >> 7u) | (four >> 14u) | (four >> 21u)) & 15u) << (4u * k);
  }
  return bits;
}
