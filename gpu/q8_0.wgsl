// Q8_0: x ≈ d·q with signed codes; also the activation type of Q4_0, Q5_0 and Q8_0.

const BLOCK_ELEMENTS = 32u;
const BLOCK_BYTES = 34u;

fn half_at(block: u32, h: u32) -> u32 {
  if (h == 0u) { return heads[block].z; }
  return code_half(block * BLOCK_QUADS, h - 1u);
}

const QS = 2u;
const D = 0u;

fn values4(block: u32, quad: u32) -> u32 { return word_of(block, QS + 4u * quad); }

fn unit_of(block: u32, quad: u32) -> vec2f { return vec2f(half_of(block, D), 0.0); }

// Planes: qs 32, d 2.
const LOWS = 0u;
const HALVED = false;

fn load_unit(u: u32) -> Unit {
  let d = plane_half(parameters.blocks * 32u + 2u * u);
  return Unit(vectors[2u * u], vectors[2u * u + 1u], vec2f(d), vec2f(0.0));
}

fn side_of(head: vec4u, first: u32) -> vec2f { return vec2f(from_half(head.z), 0.0); }
