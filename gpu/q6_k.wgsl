// Q6_K: x ≈ (d·scale)·(code - 32), 8-bit scales for every 16 elements, upper two bits apart.

const BLOCK_ELEMENTS = 256u;
const BLOCK_BYTES = 210u;
const SUB = 16u;

// The raw importance: no sigma2 term, unlike the other K types.
fn weigh_unit(first: u32) {
  if (!weighted) {
    weigh_by_squares();
    return;
  }
  for (var i = 0u; i < SUB; i++) {
    w[i] = importance_of(first + i);
    notice_input(bitcast<u32>(w[i]));
  }
}

fn search_unit() -> vec2f {
  if (mistralrs) { return search_symmetric_old(32.0); }
  return search_symmetric(32.0);
}

fn settle_block(unit: u32) {
  let peak = peak_scale(unit);
  if (!mistralrs && magnitude(peak) < EPSILON) {
    head[9] = 1u; // all bytes 0
    return;
  }
  if (magnitude(peak) == 0u) {
    head[0] = 0x8000u; // candle has no early return: 1 / (-128 / 0), and the codes of the search
    return;
  }
  let factor = over(-128.0, peak);
  for (var j = 0u; j < UNITS; j++) {
    let v = times(factor, unit_word(unit + j, 0u));
    var code = 0;
    if (mistralrs) { code = round_away_int(v); } else { code = nearest_int(v); }
    set_code(j, min(127, code));
  }
  head[0] = half_from(over(1.0, factor));
}

fn unit_scale(block: u32, j: u32) -> vec2f {
  let code = sign_extend(scale_code(block, j));
  return vec2f(product(from_half(head_word(block, 0u)), f32(code)), 0.0);
}

fn recode(v: f32, scale: vec2f) -> i32 { return recode_symmetric(v, scale.x, 32); }

fn half_at(block: u32, h: u32) -> u32 {
  let first = block * BLOCK_QUADS;
  if (h < 64u) {
    // Byte 64·half + l: low nibbles of elements 128·half + l and + 64; from l = 32 on those 32 further.
    let low = first + 32u * (h >> 5u);
    return nibble_half(low, low + 16u, h & 31u);
  }
  if (h < 96u) {
    let at = first + 32u * ((h - 64u) >> 4u) + ((h & 15u) >> 1u);
    var word = 0u;
    for (var k = 0u; k < 4u; k++) { word |= ((codes[at + 8u * k] >> 4u) & 0x03030303u) << (2u * k); }
    return word >> (16u * (h & 1u));
  }
  if (h < 104u) { return head_word(block, 1u + ((h - 96u) >> 1u)) >> (16u * (h & 1u)); }
  return head_word(block, 0u);
}

const QL = 0u;
const QH = 128u;
const SCALES = 192u;
const D = 208u;

fn values4(block: u32, quad: u32) -> u32 {
  let half = quad >> 5u;
  let k = (quad >> 3u) & 3u; // which run of 32
  let low = word_of(block, QL + 64u * half + 32u * (k & 1u) + 4u * (quad & 7u)) >> (4u * (k >> 1u));
  let high = word_of(block, QH + 32u * half + 4u * (quad & 7u)) >> (2u * k);
  return minus_each((low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4u), 32u);
}

fn unit_of(block: u32, quad: u32) -> vec2f {
  let code = sign_extend(byte_of(block, SCALES + quad / 4u));
  return vec2f(product(half_of(block, D), f32(code)), 0.0);
}

// Planes: ql 128, qh 64, scales 16, d 2.
const LOWS = 0u;
const HALVED = true;

fn load_unit(u: u32) -> Unit {
  let block = u / 8u;
  let half = (u >> 2u) & 1u;
  let k = u & 3u;
  let at = 8u * block + 4u * half + 2u * (k & 1u);
  let high = parameters.blocks * 8u + 4u * block + 2u * half;
  let shift = vec4u(4u * (k >> 1u));
  let upper = vec4u(2u * k);
  let nibbles = vec4u(0x0f0f0f0fu);
  let pairs = vec4u(0x03030303u);
  let a = ((vectors[at] >> shift) & nibbles) | (((vectors[high] >> upper) & pairs) << vec4u(4u));
  let b = ((vectors[at + 1u] >> shift) & nibbles) | (((vectors[high + 1u] >> upper) & pairs) << vec4u(4u));
  let scales = plane_word(parameters.blocks * 48u + u / 2u) >> (16u * (u & 1u));
  let d = plane_half(parameters.blocks * 208u + 2u * block);
  let codes = vec2f(vec2i(sign_extend(scales), sign_extend(scales >> 8u)));
  return Unit(minus_each4(a, 32u), minus_each4(b, 32u), d * codes, vec2f(0.0));
}
