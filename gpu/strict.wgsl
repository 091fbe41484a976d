// Strict binary32 on adapters that contract a·b + c, divide within two ulp, flush subnormals and simplify algebra.
// What holds everywhere: sums, differences and products of normal numbers are rounded right when they are computed, so a
// product only has to be kept away from the sum that follows. Integers are exact.

// The same number, through an exclusive or that no compiler sees through. A bit cast alone, a private variable or a
// multiplication by a run-time 1 did not stop contraction in long kernels.
fn opaque(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) ^ parameters.zero); }

// a·b rounded by itself, whatever follows.
fn product(a: f32, b: f32) -> f32 { return opaque(a * b); }

fn magnitude(x: f32) -> u32 { return bitcast<u32>(x) & 0x7fffffffu; }

// Set where strict arithmetic would have met a subnormal, an infinity or a NaN, which adapters flush or define otherwise, or
// where the adapter is not known to be right. A unit of work that turns out wild is done again by WebAssembly.
var<private> wild: bool; // combined with | everywhere: branches here make SwiftShader compile for half a minute

// a / b rounded to nearest. The hardware's quotient is corrected by its exact remainder (modulo 2^32, where it is small).
// Wild far from 1, and in the rare cases across a power of two where that is not enough; an integer division instead made
// modules twice as slow to compile.
fn quotient(a: f32, b: f32) -> f32 {
  let ua = bitcast<u32>(a);
  let ub = bitcast<u32>(b);
  let ea = (ua >> 23u) & 255u;
  let eb = (ub >> 23u) & 255u;
  let first = bitcast<u32>(opaque(a / b));
  let mb = i32((ub & 0x7fffffu) | 0x800000u);
  let shift = ea + 150u - ((first >> 23u) & 255u) - eb;
  let scaled = ((ua & 0x7fffffu) | 0x800000u) << (shift & 31u);
  var rest = bitcast<i32>(scaled - ((first & 0x7fffffu) | 0x800000u) * bitcast<u32>(mb));
  var q = first;
  for (var i = 0; i < 2; i++) {
    let up = 2 * rest > mb;
    let down = 2 * rest < -mb;
    q += select(select(0u, 0xffffffffu, down), 1u, up);
    rest += select(select(0, mb, down), -mb, up);
  }
  let near = (ea - 64u < 126u) & (eb - 64u < 126u);
  let right = near & (abs(2 * rest) <= mb) & (((q ^ first) >> 23u) == 0u) & (shift - 23u < 2u);
  let zero = ((ua << 1u) == 0u) & (eb - 64u < 126u);
  wild = wild | !(right | zero);
  return bitcast<f32>(select(q, (ua ^ ub) & 0x80000000u, zero));
}

// sqrt(x) rounded to nearest, for x that is not negative; as quotient().
fn root(x: f32) -> f32 {
  let ux = bitcast<u32>(x);
  let first = bitcast<u32>(opaque(sqrt(x)));
  let ms = (first & 0x7fffffu) | 0x800000u;
  let shift = (ux >> 23u) + 150u - 2u * (first >> 23u);
  var rest = bitcast<i32>((((ux & 0x7fffffu) | 0x800000u) << (shift & 31u)) - ms * ms);
  var m = i32(ms);
  for (var i = 0; i < 2; i++) {
    let up = rest > m;
    let down = rest <= -m;
    rest += select(select(0, 2 * m - 1, down), -2 * m - 1, up);
    m += select(select(0, -1, down), 1, up);
  }
  // Next to a power of two the steps below it are half as wide; the power itself has a root without a rest.
  let inside = (rest <= m) & (rest > -m) & (m > 0x800000) & (m < 0x1000000) & (ms != 0x800000u);
  let right = ((ux >> 23u) - 64u < 126u) & (shift - 23u < 2u) & (inside | ((rest == 0) & (m == 0x800000)));
  wild = wild | !(right | (ux == 0u));
  return bitcast<f32>(select(first + bitcast<u32>(m) - ms, 0u, ux == 0u));
}

// binary32 to binary16: nearest even, subnormals kept.
fn half_from(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let m = bits & 0x7fffffffu;
  if (m > 0x7f800000u) { return sign | 0x7e00u; }
  if (m >= 0x477ff000u) { return sign | 0x7c00u; }
  if (m < 0x33000000u) { return sign; }
  let small = m < 0x38800000u;
  let shift = select(13u, 126u - (m >> 23u), small);
  let significand = select(m - 0x38000000u, (m & 0x7fffffu) | 0x800000u, small);
  let kept = significand >> shift;
  let cut = significand & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return sign | (kept + select(0u, 1u, (cut > half) | ((cut == half) & ((kept & 1u) == 1u))));
}

// Exact on every adapter, unlike the way back.
fn from_half(bits: u32) -> f32 { return unpack2x16float(bits & 0xffffu).x; }

// ggml's nearest integer, its bit rule included. v must be opaque: no product may be fused with the sum.
fn nearest_int(v: f32) -> i32 { return (bitcast<i32>(v + 12582912.0) & 0x7fffff) - 0x400000; }

// Nearest integer as a number, ties away from zero: 0.49999997 is the largest number below a half.
fn round_away(v: f32) -> f32 {
  let half = bitcast<f32>(0x3effffffu | (bitcast<u32>(v) & 0x80000000u));
  return trunc(v + half);
}

// Orders numbers as integers, both zeros alike: comparisons of the hardware flush subnormals, its minimum orders zeros.
fn order_of(bits: u32) -> i32 {
  let s = bitcast<i32>(bits);
  return select(s, bitcast<i32>(0x80000000u - bits), s < 0);
}
