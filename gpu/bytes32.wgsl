// Signed bytes, scale = largest magnitude / 127, ties away from zero: Q8_0 and Q8_1.

fn part_of(x: vec4u) -> vec2u {
  let m = x & vec4u(0x7fffffffu);
  return vec2u(max(max(m.x, m.y), max(m.z, m.w)), 0u);
}

fn merge(a: vec2u, b: vec2u) -> vec2u { return max(a, b); }

// Scale, its inverse, the field d.
fn head_of(part: vec2u) -> vec4u {
  let peak = bitcast<f32>(part.x);
  notice_tame(peak);
  let d = quotient(peak, 127.0);
  return vec4u(bitcast<u32>(d), bitcast<u32>(inverse_of(d)), half_from(d), 0u);
}

fn code_of(x: f32, head: vec4u) -> i32 { return i32(round_away(product(x, bitcast<f32>(head.y)))); }
