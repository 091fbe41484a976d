// Codes 0..2N-1 around N, scale = peak / -N: Q4_0 and Q5_0. The peak is the value of largest magnitude, the first of several.

fn part_of(x: vec4u) -> vec2u { return peak_of(x); }

fn merge(a: vec2u, b: vec2u) -> vec2u { return vec2u(larger(a.x, b.x), 0u); }

// Scale, its inverse, the field d.
fn head_of(part: vec2u) -> vec4u {
  let peak = bitcast<f32>(part.x);
  notice_tame(peak);
  let d = quotient(select(peak, 0.0, magnitude(peak) == 0u), -f32(N)); // a block of zeros, whatever their signs, gives -0
  return vec4u(bitcast<u32>(d), bitcast<u32>(inverse_of(d)), half_from(d), 0u);
}

fn code_of(x: f32, head: vec4u) -> i32 {
  return min(2 * N - 1, i32(product(x, bitcast<f32>(head.y)) + (f32(N) + 0.5)));
}
