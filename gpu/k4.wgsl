// What Q4_K and Q5_K share: units of 32 with 6-bit scales and minima.

const SUB = 32u;

fn settle_block(unit: u32) { settle_affine(unit, 63, 8u); }

fn weigh_unit(first: u32) {
  if (weighted) {
    weigh_by_importance(first, 2.0);
    return;
  }
  if (mistralrs) { return; }
  var sum = 0.0;
  for (var i = 0u; i < SUB; i++) { sum = plus(sum, times(x[i], x[i])); }
  let average = root(over(sum, f32(SUB)));
  for (var i = 0u; i < SUB; i++) { w[i] = average + abs(x[i]); }
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

// Decoded scale and minimum of unit j.
fn unit_scale(block: u32, j: u32) -> vec2f {
  let both = head_word(block, 0u);
  return vec2f(
    product(from_half(both), f32(scale_code(block, j))),
    product(from_half(both >> 16u), f32(scale_code(block, 8u + j))),
  );
}

fn recode(v: f32, scale: vec2f) -> i32 { return recode_affine(v, scale, N); }

// Halves 0 … 7: d, dmin, and the scales packed.
fn k4_half(block: u32, h: u32) -> u32 {
  if (h < 2u) { return head_word(block, 0u) >> (16u * h); }
  let low = vec2u(head_word(block, 1u), head_word(block, 3u));  // scales and minima 0 … 3
  let high = vec2u(head_word(block, 2u), head_word(block, 4u)); // 4 … 7
  let i = (h - 2u) >> 1u;
  var word = (high.x & 0x0f0f0f0fu) | ((high.y & 0x0f0f0f0fu) << 4u);
  if (i < 2u) { word = low[i] | (((high[i] >> 4u) & 0x03030303u) << 6u); }
  return word >> (16u * (h & 1u));
}

// Nibbles: byte 32g + l holds elements 64g + l and 64g + 32 + l.
fn nibble_planes_half(first: u32, h: u32) -> u32 {
  let low = first + 16u * (h >> 4u);
  return nibble_half(low, low + 8u, h & 15u);
}

// Decoding.
const D = 0u;
const SCALES = 4u;

// Scale and minimum code of unit j.
fn k4_codes(block: u32, j: u32) -> vec2u {
  let i = j & 3u;
  let low = byte_of(block, SCALES + i);
  let high = byte_of(block, SCALES + 4u + i);
  if (j < 4u) { return vec2u(low & 63u, high & 63u); }
  let last = byte_of(block, SCALES + 8u + i);
  return vec2u((last & 15u) | ((low >> 6u) << 4u), (last >> 4u) | ((high >> 6u) << 4u));
}

fn nibble_planes256(field: u32, block: u32, quad: u32) -> u32 {
  return (word_of(block, field + 32u * (quad >> 4u) + 4u * (quad & 7u)) >> (4u * ((quad >> 3u) & 1u))) & 0x0f0f0f0fu;
}

fn unit_of(block: u32, quad: u32) -> vec2f {
  let own = k4_codes(block, quad / 8u);
  return vec2f(product(half_of(block, D), f32(own.x)), product(half_of(block, D + 2u), f32(own.y)));
}

// Placed weights are blocks as they are, whole vectors of 16 bytes; the first has the scales.
const LOWS = 1u;
const HALVED = false;

// Scale and minimum of unit j, from a block's first vector.
fn k4_unit(head: vec4u, j: u32) -> vec2f {
  let shift = 8u * (j & 3u);
  let s = head.y >> shift;
  let m = head.z >> shift;
  let last = head.w >> shift;
  let low = vec2u(s & 63u, m & 63u);
  let high = vec2u((last & 15u) | ((s >> 2u) & 48u), ((last >> 4u) & 15u) | ((m >> 2u) & 48u));
  return unpack2x16float(head.x) * vec2f(select(high, low, vec2<bool>(j < 4u)));
}
