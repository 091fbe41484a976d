// Codes 0..N above the block's minimum: Q4_1 and Q5_1. Of several minima, zeros of both signs among them, the first counts.

// Bits of the minimum and of the maximum.
fn part_of(x: vec4u) -> vec2u {
  var part = vec2u(x.x);
  for (var i = 1u; i < 4u; i++) { part = merge(part, vec2u(x[i])); }
  return part;
}

fn merge(a: vec2u, b: vec2u) -> vec2u {
  return vec2u(
    select(a.x, b.x, order_of(b.x) < order_of(a.x)),
    select(a.y, b.y, order_of(b.y) > order_of(a.y)),
  );
}

// Minimum, the scale's inverse, the fields d and m.
fn head_of(part: vec2u) -> vec4u {
  let low = bitcast<f32>(part.x);
  let high = bitcast<f32>(part.y);
  let range = high - low;
  notice_tame(low);
  notice_tame(high);
  notice_tame(range);
  let d = quotient(range, f32(N));
  return vec4u(part.x, bitcast<u32>(inverse_of(d)), half_from(d), half_from(low));
}

fn code_of(x: f32, head: vec4u) -> i32 {
  notice_tame(x); // differences of smaller numbers may be subnormal
  return min(N, i32(product(x - bitcast<f32>(head.x), bitcast<f32>(head.y)) + 0.5));
}
