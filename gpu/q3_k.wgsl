// Q3_K: x ≈ d·(scale - 32)·(code - 4), 6-bit scales for every 16 elements, high bits apart.

const BLOCK_ELEMENTS = 256u;
const BLOCK_BYTES = 110u;
const SUB = 16u;

fn weigh_unit(first: u32) {
  if (weighted) { weigh_by_importance(first, 2.0); } else { weigh_by_squares(); }
}

fn search_unit() -> vec2f {
  if (weighted) { return search_weighted(4.0); }
  let fit = search_three_bit();
  if (mistralrs) { clear_codes(); } // candle forgets the codes of its search
  return fit;
}

fn search_weighted(n: f32) -> vec2f {
  if (mistralrs) { return search_symmetric_old(n); }
  return search_symmetric(n);
}

fn settle_block(unit: u32) {
  if (weighted) {
    x_least = 0xffffffffu;
    for (var j = 0u; j < UNITS; j++) {
      x[j] = unit_word(unit + j, 0u);
      w[j] = unit_word(unit + j, 2u);
      x_least = min(x_least, magnitude(x[j]) - 1u);
    }
    measure_weights();
    head[0] = half_from(search_weighted(32.0).x);
    for (var j = 0u; j < UNITS; j++) { set_code(j, i32(l[j])); }
    return;
  }
  let peak = peak_scale(unit);
  if (magnitude(peak) == 0u) { return; } // d and the scale bytes stay 0
  let factor = over(-32.0, peak);
  for (var j = 0u; j < UNITS; j++) {
    set_code(j, i32(round_symmetric(times(factor, unit_word(unit + j, 0u)), 32.0, mistralrs)) + 32);
  }
  head[0] = half_from(over(1.0, factor));
}

fn unit_scale(block: u32, j: u32) -> vec2f {
  return vec2f(product(from_half(head_word(block, 0u)), f32(i32(scale_code(block, j)) - 32)), 0.0);
}

fn recode(v: f32, scale: vec2f) -> i32 { return recode_symmetric(v, scale.x, 4); }

fn half_at(block: u32, h: u32) -> u32 {
  let first = block * BLOCK_QUADS;
  if (h < 16u) { return planes_half(first, h, 2u); }
  if (h < 48u) { return pairs_half(first, h - 16u); }
  if (h == 54u) { return head_word(block, 0u); }
  // Low nibbles of codes 0 … 7 and 8 … 15, then the upper two bits of four at a time.
  let i = (h - 48u) >> 1u;
  var word = 0u;
  if (i < 2u) {
    word = (head_word(block, 1u + i) & 0x0f0f0f0fu) | ((head_word(block, 3u + i) & 0x0f0f0f0fu) << 4u);
  } else {
    for (var k = 0u; k < 4u; k++) { word |= ((head_word(block, 1u + k) >> 4u) & 0x03030303u) << (2u * k); }
  }
  return word >> (16u * (h & 1u));
}

const QS = 32u;
const HMASK = 0u;
const SCALES = 96u;
const D = 108u;

fn values4(block: u32, quad: u32) -> u32 {
  return minus_each(pairs256(QS, block, quad) | (plane256(HMASK, block, quad) << 2u), 4u);
}

fn unit_of(block: u32, quad: u32) -> vec2f {
  let j = quad / 4u;
  let low = byte_of(block, SCALES + (j & 7u)) >> (4u * (j >> 3u));
  let high = byte_of(block, SCALES + 8u + (j & 3u)) >> (2u * (j >> 2u));
  let code = i32((low & 15u) | ((high & 3u) << 4u)) - 32;
  return vec2f(product(half_of(block, D), f32(code)), 0.0);
}

// Planes: qs 64, hmask 32, scales 12, d 2.
const LOWS = 0u;
const HALVED = true;

fn load_unit(u: u32) -> Unit {
  let block = u / 8u;
  let j = u % 8u;
  let at = 4u * block + 2u * (j >> 2u);
  let high = parameters.blocks * 4u + 2u * block;
  let shift = vec4u(2u * (j & 3u));
  let pairs = vec4u(0x03030303u);
  let bits = vec4u(0x01010101u);
  let a = ((vectors[at] >> shift) & pairs) | (((vectors[high] >> vec4u(j)) & bits) << vec4u(2u));
  let b = ((vectors[at + 1u] >> shift) & pairs) | (((vectors[high + 1u] >> vec4u(j)) & bits) << vec4u(2u));
  let scales = parameters.blocks * 24u + 3u * block;
  let d = plane_half(parameters.blocks * 108u + 2u * block);
  // Codes 2j and 2j + 1: low nibbles in eight bytes, low and high, then two bits in four bytes.
  let i = 2u * j;
  let low = plane_word(scales + ((i & 7u) >> 2u)) >> (8u * (i & 3u) + 4u * (i >> 3u));
  let upper = plane_word(scales + 2u) >> (8u * (i & 3u) + 2u * (i >> 2u));
  let first = i32((low & 15u) | ((upper & 3u) << 4u)) - 32;
  let second = i32(((low >> 8u) & 15u) | (((upper >> 8u) & 3u) << 4u)) - 32;
  return Unit(minus_each4(a, 4u), minus_each4(b, 4u), d * vec2f(f32(first), f32(second)), vec2f(0.0));
}
