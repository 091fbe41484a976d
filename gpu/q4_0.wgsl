// Q4_0: x ≈ d·(code - 8).

const BLOCK_ELEMENTS = 32u;
const BLOCK_BYTES = 18u;
const N = 8;

fn half_at(block: u32, h: u32) -> u32 {
  if (h == 0u) { return heads[block].z; }
  let first = block * BLOCK_QUADS;
  return nibble_half(first, first + 4u, h - 1u);
}

const QS = 2u;
const D = 0u;

fn values4(block: u32, quad: u32) -> u32 { return minus_each(nibbles32(QS, block, quad), 8u); }

fn unit_of(block: u32, quad: u32) -> vec2f { return vec2f(half_of(block, D), 0.0); }

fn search_unit() -> vec2f { return search_symmetric(f32(N)); }

// Planes: qs 16, d 2.
const LOWS = 0u;
const HALVED = false;

fn load_unit(u: u32) -> Unit {
  let q = vectors[u];
  let d = plane_half(parameters.blocks * 16u + 2u * u);
  let a = minus_each4(q & vec4u(0x0f0f0f0fu), 8u);
  let b = minus_each4((q >> vec4u(4u)) & vec4u(0x0f0f0f0fu), 8u);
  return Unit(a, b, vec2f(d), vec2f(0.0));
}
