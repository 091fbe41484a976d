// Q5_K: as Q4_K with 5-bit codes, fifth bits apart.

const BLOCK_ELEMENTS = 256u;
const BLOCK_BYTES = 176u;
const N = 31;
const PLAIN_GRID = Grid(31.0, -0.5, 0.1, 15, false);

fn half_at(block: u32, h: u32) -> u32 {
  let first = block * BLOCK_QUADS;
  if (h < 8u) { return k4_half(block, h); }
  if (h < 24u) { return planes_half(first, h - 8u, 4u); }
  return nibble_planes_half(first, h - 24u);
}

const QS = 48u;
const QH = 16u;

fn values4(block: u32, quad: u32) -> u32 {
  return nibble_planes256(QS, block, quad) | (plane256(QH, block, quad) << 4u);
}

fn load_unit(u: u32) -> Unit {
  let at = 11u * (u / 8u);
  let j = u % 8u;
  let fields = k4_unit(vectors[at], j);
  let first = at + 3u + 2u * (j >> 1u);
  let shift = vec4u(4u * (j & 1u));
  let fifth = vec4u(j);
  let mask = vec4u(0x0f0f0f0fu);
  let bits = vec4u(0x01010101u);
  let a = ((vectors[first] >> shift) & mask) | (((vectors[at + 1u] >> fifth) & bits) << vec4u(4u));
  let b = ((vectors[first + 1u] >> shift) & mask) | (((vectors[at + 2u] >> fifth) & bits) << vec4u(4u));
  return Unit(a, b, fields.xx, fields.yy);
}
