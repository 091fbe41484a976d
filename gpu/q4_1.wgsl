// Q4_1: x ≈ d·code + m.

const BLOCK_ELEMENTS = 32u;
const BLOCK_BYTES = 20u;
const N = 15;

fn half_at(block: u32, h: u32) -> u32 {
  if (h == 0u) { return heads[block].z; }
  if (h == 1u) { return heads[block].w; }
  let first = block * BLOCK_QUADS;
  return nibble_half(first, first + 4u, h - 2u);
}

const QS = 4u;
const D = 0u;

fn values4(block: u32, quad: u32) -> u32 { return nibbles32(QS, block, quad); }

fn unit_of(block: u32, quad: u32) -> vec2f { return vec2f(half_of(block, D), -half_of(block, D + 2u)); }

fn search_unit() -> vec2f { return search_affine(IMPORTANCE_GRID); }

// Planes: qs 16, d and m 4.
const LOWS = 1u;
const HALVED = false;

fn load_unit(u: u32) -> Unit {
  let q = vectors[u];
  let fields = unpack2x16float(plane_word(parameters.blocks * 4u + u));
  let mask = vec4u(0x0f0f0f0fu);
  return Unit(q & mask, (q >> vec4u(4u)) & mask, vec2f(fields.x), vec2f(-fields.y));
}
