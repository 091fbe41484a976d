// Q8_K: x ≈ d·q with a binary32 scale and the sums of 16 codes; the activation type of the K types.

const BLOCK_ELEMENTS = 256u;
const BLOCK_BYTES = 292u;

fn part_of(x: vec4u) -> vec2u { return peak_of(x); }

fn merge(a: vec2u, b: vec2u) -> vec2u { return vec2u(larger(a.x, b.x), 0u); }

// Scale, its inverse.
fn head_of(part: vec2u) -> vec4u {
  let peak = bitcast<f32>(part.x);
  if (magnitude(peak) == 0u) { return vec4u(0u); } // all bytes 0
  notice_tame(peak);
  let inverse = quotient(-127.0, peak);
  return vec4u(bitcast<u32>(quotient(1.0, inverse)), bitcast<u32>(inverse), 0u, 0u);
}

fn code_of(x: f32, head: vec4u) -> i32 {
  let v = product(bitcast<f32>(head.y), x);
  if (mistralrs) { return i32(round_away(v)); }
  return min(127, nearest_int(v));
}

fn half_at(block: u32, h: u32) -> u32 {
  let first = block * BLOCK_QUADS;
  if (h < 2u) { return heads[block].x >> (16u * h); }
  if (h < 130u) { return code_half(first, h - 2u); }
  var sum = 0;
  for (var i = 0u; i < 4u; i++) { sum += dot4I8Packed(codes[first + 4u * (h - 130u) + i], 0x01010101u); }
  return bitcast<u32>(sum);
}

const QS = 4u;
const D = 0u;

fn values4(block: u32, quad: u32) -> u32 { return word_of(block, QS + 4u * quad); }

fn unit_of(block: u32, quad: u32) -> vec2f {
  let d = bitcast<f32>(word_of(block, D));
  notice_range(d, TAME_LEAST, TAME_MOST);
  return vec2f(d, 0.0);
}

// Planes: qs 256, d 4, and the sums, which products do not need.
const LOWS = 0u;
const HALVED = false;

fn load_unit(u: u32) -> Unit {
  let d = bitcast<f32>(plane_word(parameters.blocks * 64u + u / 8u));
  return Unit(vectors[2u * u], vectors[2u * u + 1u], vec2f(d), vec2f(0.0));
}

fn side_of(head: vec4u, first: u32) -> vec2f {
  let d = bitcast<f32>(head.x);
  return vec2f(d, product(d, f32(sum_of_codes(first))));
}
