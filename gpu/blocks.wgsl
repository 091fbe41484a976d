// Reading blocks as files and results have them: side by side, starting at any even byte of `words`.

// The word `byte` bytes into a block.
fn word_of(block: u32, byte: u32) -> u32 {
  let at = block * BLOCK_BYTES + byte;
  let i = at >> 2u;
  if ((at & 2u) == 0u) { return words[i]; }
  return (words[i] >> 16u) | (words[i + 1u] << 16u);
}

fn byte_of(block: u32, byte: u32) -> u32 {
  let at = block * BLOCK_BYTES + byte;
  return (words[at >> 2u] >> (8u * (at & 3u))) & 0xffu;
}

// A binary16 field. What infinities and NaN make of numbers is left to WebAssembly.
fn half_of(block: u32, byte: u32) -> f32 {
  let at = block * BLOCK_BYTES + byte;
  let half = (words[at >> 2u] >> (8u * (at & 2u))) & 0xffffu;
  wild = wild | ((half & 0x7c00u) == 0x7c00u);
  return from_half(half);
}

// Four signed bytes as numbers.
fn numbers(packed: u32) -> vec4f { return vec4f(unpack4xI8(packed)); }

// Subtracts a number below 128 from each of four codes below 128, giving signed bytes.
fn minus_each(packed: u32, n: u32) -> u32 {
  return ((packed | 0x80808080u) - n * 0x01010101u) ^ 0x80808080u;
}

fn minus_each4(packed: vec4u, n: u32) -> vec4u {
  return ((packed | vec4u(0x80808080u)) - vec4u(n * 0x01010101u)) ^ vec4u(0x80808080u);
}

// Bits 0 … 15 to bit 4 of sixteen bytes.
fn spread_fifths(bits: u32) -> vec4u {
  let four = (vec4u(bits) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u);
  return ((four << vec4u(4u)) | (four << vec4u(11u)) | (four << vec4u(18u)) | (four << vec4u(25u))) & vec4u(0x10101010u);
}

// The low byte of a word as a signed number.
fn sign_extend(byte: u32) -> i32 { return bitcast<i32>(byte << 24u) >> 24u; }

// The nibbles of elements 4·quad … of 32: low ones are the first 16 elements, high ones the others.
fn nibbles32(field: u32, block: u32, quad: u32) -> u32 {
  return (word_of(block, field + 4u * (quad & 3u)) >> (4u * (quad >> 2u))) & 0x0f0f0f0fu;
}

// The fifth bits of elements 4·quad …, which are bits 4·quad … of a field, each moved to bit 4 of a byte.
fn fifths32(field: u32, block: u32, quad: u32) -> u32 {
  let four = (word_of(block, field) >> (4u * quad)) & 15u;
  return ((four << 4u) | (four << 11u) | (four << 18u) | (four << 25u)) & 0x10101010u;
}

// The two bits of elements 4·quad … of 256.
fn pairs256(field: u32, block: u32, quad: u32) -> u32 {
  let word = word_of(block, field + 32u * (quad >> 5u) + 4u * (quad & 7u));
  return (word >> (2u * ((quad >> 3u) & 3u))) & 0x03030303u;
}

// A bit of elements 4·quad … of 256, which is bit quad / 8 of 32 bytes.
fn plane256(field: u32, block: u32, quad: u32) -> u32 {
  return (word_of(block, field + 4u * (quad & 7u)) >> (quad >> 3u)) & 0x01010101u;
}
