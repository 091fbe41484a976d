// Q8_1: Q8_0 plus s, the scaled sum of the codes; also the activation type of Q4_1 and Q5_1.

const BLOCK_ELEMENTS = 32u;
const BLOCK_BYTES = 36u;

fn half_at(block: u32, h: u32) -> u32 {
  let first = block * BLOCK_QUADS;
  if (h == 0u) { return heads[block].z; }
  if (h > 1u) { return code_half(first, h - 2u); }
  var sum = 0;
  for (var i = 0u; i < BLOCK_QUADS; i++) { sum += dot4I8Packed(codes[first + i], 0x01010101u); }
  // ggml scales the sum by the unrounded d; candle multiplies two numbers already rounded to binary16.
  if (mistralrs) { return half_from(product(from_half(half_from(f32(sum))), from_half(heads[block].z))); }
  return half_from(product(f32(sum), bitcast<f32>(heads[block].x)));
}

const QS = 4u;
const D = 0u;

fn values4(block: u32, quad: u32) -> u32 { return word_of(block, QS + 4u * quad); }

fn unit_of(block: u32, quad: u32) -> vec2f { return vec2f(half_of(block, D), 0.0); }

// Planes: qs 32, d and s 4.
const LOWS = 0u;
const HALVED = false;

fn load_unit(u: u32) -> Unit {
  let d = from_half(plane_word(parameters.blocks * 8u + u));
  return Unit(vectors[2u * u], vectors[2u * u + 1u], vec2f(d), vec2f(0.0));
}

fn side_of(head: vec4u, first: u32) -> vec2f {
  let sum = half_from(product(f32(sum_of_codes(first)), bitcast<f32>(head.x)));
  return vec2f(from_half(head.z), from_half(sum));
}
