// Weights must be finite before they are encoded: all exponent bits set means infinity or NaN.

const EXPONENT: i32 = 0x7f800000;

/** Index of the first infinity or NaN of `count` floats, or -1. */
export function first_non_finite(src: usize, count: i32): i32 {
  const exponent = i32x4.splat(EXPONENT);
  let i: i32 = 0;
  for (; i + 16 <= count; i += 16) {
    const at = src + (<usize>i << 2);
    const a = i32x4.eq(v128.and(v128.load(at), exponent), exponent);
    const b = i32x4.eq(v128.and(v128.load(at, 16), exponent), exponent);
    const c = i32x4.eq(v128.and(v128.load(at, 32), exponent), exponent);
    const d = i32x4.eq(v128.and(v128.load(at, 48), exponent), exponent);
    if (v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) break;
  }
  for (; i < count; i++) if ((load<i32>(src + (<usize>i << 2)) & EXPONENT) == EXPONENT) return i;
  return -1;
}
