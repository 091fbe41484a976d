// Q2_K: x ≈ (d·scale)·code - dmin·min, 4-bit scales and minima for every 16 elements.

const BLOCK_ELEMENTS = 256u;
const BLOCK_BYTES = 84u;
const SUB = 16u;
const N = 3;
const PLAIN_GRID = Grid(3.0, -0.5, 0.1, 15, true);

fn weigh_unit(first: u32) {
  if (weighted) {
    weigh_by_importance(first, 1.0);
    return;
  }
  for (var i = 0u; i < SUB; i++) { w[i] = abs(x[i]); }
}

fn search_unit() -> vec2f {
  if (weighted) {
    let fit = search_affine(IMPORTANCE_GRID);
    if (mistralrs) { clear_codes(); }
    return fit;
  }
  if (mistralrs) { return search_affine_old(f32(N)); }
  return search_affine(PLAIN_GRID);
}

// A byte holds a scale in its low nibble and a minimum in its high one: codes 0 … 15 and 16 … 31 of the head.
fn settle_block(unit: u32) { settle_affine(unit, 15, 16u); }

fn scale_nibbles(block: u32, i: u32) -> u32 { return head_word(block, 1u + i) | (head_word(block, 5u + i) << 4u); }

fn unit_scale(block: u32, j: u32) -> vec2f {
  let both = head_word(block, 0u);
  let packed = scale_nibbles(block, j >> 2u) >> (8u * (j & 3u));
  return vec2f(
    product(from_half(both), f32(packed & 15u)),
    product(from_half(both >> 16u), f32((packed >> 4u) & 15u)),
  );
}

fn recode(v: f32, scale: vec2f) -> i32 { return recode_affine(v, scale, N); }

fn half_at(block: u32, h: u32) -> u32 {
  if (h < 8u) { return scale_nibbles(block, h >> 1u) >> (16u * (h & 1u)); }
  if (h < 40u) { return pairs_half(block * BLOCK_QUADS, h - 8u); }
  return head_word(block, 0u) >> (16u * (h - 40u));
}

const QS = 16u;
const SCALES = 0u;
const D = 80u;

fn values4(block: u32, quad: u32) -> u32 { return pairs256(QS, block, quad); }

fn unit_of(block: u32, quad: u32) -> vec2f {
  let packed = byte_of(block, SCALES + quad / 4u);
  return vec2f(
    product(half_of(block, D), f32(packed & 15u)),
    product(half_of(block, D + 2u), f32(packed >> 4u)),
  );
}

// Planes: qs 64, scales 16, d and dmin 4.
const LOWS = 2u;
const HALVED = true;

fn load_unit(u: u32) -> Unit {
  let block = u / 8u;
  let j = u % 8u;
  let at = 4u * block + 2u * (j >> 2u);
  let shift = vec4u(2u * (j & 3u));
  let mask = vec4u(0x03030303u);
  let scales = plane_word(parameters.blocks * 16u + 4u * block + j / 2u) >> (16u * (j & 1u));
  let fields = unpack2x16float(plane_word(parameters.blocks * 20u + block));
  return Unit(
    (vectors[at] >> shift) & mask,
    (vectors[at + 1u] >> shift) & mask,
    fields.x * vec2f(vec2u(scales & 15u, (scales >> 8u) & 15u)),
    fields.y * vec2f(vec2u((scales >> 4u) & 15u, (scales >> 12u) & 15u)),
  );
}
