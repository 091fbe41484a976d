// Weights in fours of rows: what a header of one row costs is shared by four, and a vector can have a lane for each.

/** Constants in memory: one load each, where V8 makes a constant anew from two or three instructions wherever it is used. */
const CONSTANTS = memory.data<u32>(
  [
    0x8fffe000, 0x8fffe000, 0x8fffe000, 0x8fffe000, 0x77800000, 0x77800000, 0x77800000, 0x77800000, 0x47800000, 0x47800000,
    0x47800000, 0x47800000, 0x7f800000, 0x7f800000, 0x7f800000, 0x7f800000,
  ],
  16,
);

/** Four floats from binary16 in the upper halves of lanes: as floatsFromHalves, in fewer steps. */
// @ts-ignore: decorator
@inline
export function floatsFromUpperHalves(x: v128): v128 {
  const moved = v128.and(i32x4.shr_s(x, 3), v128.load(CONSTANTS));
  const value = f32x4.mul(moved, v128.load(CONSTANTS, 16));
  const special = f32x4.ge(f32x4.abs(value), v128.load(CONSTANTS, 32));
  return v128.or(value, v128.and(special, v128.load(CONSTANTS, 48)));
}

/** Four binary16 in the lower half of a vector. */
// @ts-ignore: decorator
@inline
export function floatsFromLow(halves: v128): v128 {
  return floatsFromUpperHalves(v128.shuffle<i16>(i32x4.splat(0), halves, 0, 8, 1, 9, 2, 10, 3, 11));
}

/** Four binary16 in the upper half of a vector. */
// @ts-ignore: decorator
@inline
export function floatsFromHigh(halves: v128): v128 {
  return floatsFromUpperHalves(v128.shuffle<i16>(i32x4.splat(0), halves, 4, 12, 5, 13, 6, 14, 7, 15));
}

/** Lane k: the total of the k-th vector. */
// @ts-ignore: decorator
@inline
export function totals(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7));
  const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7));
  return i32x4.add(v128.shuffle<i64>(ab, cd, 0, 2), v128.shuffle<i64>(ab, cd, 1, 3));
}
