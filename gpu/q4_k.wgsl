// Q4_K: x ≈ (d·scale)·code - dmin·min, 4-bit codes, 6-bit scales and minima for every 32 elements.

const BLOCK_ELEMENTS = 256u;
const BLOCK_BYTES = 144u;
const N = 15;
const PLAIN_GRID = Grid(15.0, -1.0, 0.1, 20, false);

fn half_at(block: u32, h: u32) -> u32 {
  if (h < 8u) { return k4_half(block, h); }
  return nibble_planes_half(block * BLOCK_QUADS, h - 8u);
}

const QS = 16u;

fn values4(block: u32, quad: u32) -> u32 { return nibble_planes256(QS, block, quad); }

fn load_unit(u: u32) -> Unit {
  let at = 9u * (u / 8u);
  let j = u % 8u;
  let fields = k4_unit(vectors[at], j);
  let first = at + 1u + 2u * (j >> 1u);
  let shift = vec4u(4u * (j & 1u));
  let mask = vec4u(0x0f0f0f0fu);
  return Unit((vectors[first] >> shift) & mask, (vectors[first + 1u] >> shift) & mask, fields.xx, fields.yy);
}
