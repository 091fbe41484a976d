// Q5_0: x ≈ d·(code - 16), fifth bits apart.

const BLOCK_ELEMENTS = 32u;
const BLOCK_BYTES = 22u;
const N = 16;

fn half_at(block: u32, h: u32) -> u32 {
  if (h == 0u) { return heads[block].z; }
  let first = block * BLOCK_QUADS;
  if (h < 3u) { return fifth_bits(first) >> (16u * (h - 1u)); }
  return nibble_half(first, first + 4u, h - 3u);
}

const QS = 6u;
const QH = 2u;
const D = 0u;

fn values4(block: u32, quad: u32) -> u32 {
  return minus_each(nibbles32(QS, block, quad) | fifths32(QH, block, quad), 16u);
}

fn unit_of(block: u32, quad: u32) -> vec2f { return vec2f(half_of(block, D), 0.0); }

fn search_unit() -> vec2f { return search_symmetric(f32(N)); }

// Planes: qs 16, qh 4, d 2.
const LOWS = 0u;
const HALVED = false;

fn load_unit(u: u32) -> Unit {
  let q = vectors[u];
  let high = plane_word(parameters.blocks * 4u + u);
  let d = plane_half(parameters.blocks * 20u + 2u * u);
  let mask = vec4u(0x0f0f0f0fu);
  let a = minus_each4((q & mask) | spread_fifths(high), 16u);
  let b = minus_each4(((q >> vec4u(4u)) & mask) | spread_fifths(high >> 16u), 16u);
  return Unit(a, b, vec2f(d), vec2f(0.0));
}
