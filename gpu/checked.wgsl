// Operations that notice when strict arithmetic would have left the normal numbers: they set `wild`.

const SMALLEST_NORMAL = 0x00800000u;
const INFINITE = 0x7f800000u;

// `zero`: a result of 0 is right. Otherwise a 0 is a subnormal that was flushed.
fn notice(r: f32, zero: bool) -> f32 {
  let m = magnitude(r);
  wild = wild | (m >= INFINITE) | ((m < SMALLEST_NORMAL) & !zero);
  return r;
}

fn times(a: f32, b: f32) -> f32 { return notice(product(a, b), (a == 0.0) | (b == 0.0)); }
fn plus(a: f32, b: f32) -> f32 { return notice(opaque(a + b), a == -b); }
fn minus(a: f32, b: f32) -> f32 { return notice(opaque(a - b), a == b); }
fn over(a: f32, b: f32) -> f32 { return notice(quotient(a, b), a == 0.0); }

// An input: zeros are numbers, subnormals are not.
fn notice_input(bits: u32) {
  let m = bits & 0x7fffffffu;
  wild = wild | (m - 1u < SMALLEST_NORMAL - 1u) | (m >= INFINITE);
}

// Marks v as wild unless it is 0 or has a magnitude from `least` to `most`, given as bit patterns.
fn notice_range(v: f32, least: u32, most: u32) {
  let m = magnitude(v);
  wild = wild | ((m != 0u) & ((m < least) | (m > most)));
}

// Nearest integer, ties away from zero; wild where Rust would have saturated.
fn round_away_int(v: f32) -> i32 {
  wild = wild | (magnitude(v) >= 0x4e000000u); // 2^29
  return i32(round_away(v));
}

// Between 2^-60 and 2^60 no quotient and no product that decides a bit comes near the ends of binary32.
const TAME_LEAST = 0x21800000u;
const TAME_MOST = 0x5d800000u;
