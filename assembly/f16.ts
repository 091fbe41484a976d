// binary16 and bfloat16, by integers: WebAssembly has neither.

const INFINITE: i32 = 0x7f800000;

/** binary16 to binary32, exact: the bits moved into place are too small by 2^112. */
// @ts-ignore: decorator
@inline
export function floatFromHalf(half: u32): f32 {
  const sign = (half & 0x8000) << 16;
  const magnitude = half & 0x7fff;
  const value = reinterpret<u32>(reinterpret<f32>(magnitude << 13) * reinterpret<f32>(0x77800000));
  return reinterpret<f32>(sign | (magnitude >= 0x7c00 ? (magnitude << 13) | 0x7f800000 : value));
}

// @ts-ignore: decorator
@inline
export function loadHalf(address: usize): f32 {
  return floatFromHalf(load<u16>(address));
}

/** Four binary16 in the low halves of the lanes to binary32. */
// @ts-ignore: decorator
@inline
export function floatsFromHalves(halves: v128): v128 {
  const sign = i32x4.shl(v128.and(halves, i32x4.splat(0x8000)), 16);
  const moved = i32x4.shl(v128.and(halves, i32x4.splat(0x7fff)), 13);
  const value = f32x4.mul(moved, i32x4.splat(0x77800000));
  const special = i32x4.ge_s(moved, i32x4.splat(0x0f800000));
  return v128.or(sign, v128.or(value, v128.and(special, v128.or(moved, i32x4.splat(INFINITE)))));
}

/** Nearest even; |v| ≥ 65520 gives infinity. NaN gives 0x7E00 whatever its sign: the sign of a computed NaN is not
 * defined in WebAssembly, and the bytes must be. */
export function halfFromFloat(value: f32): u32 {
  if (value != value) return 0x7e00;
  const bits = reinterpret<u32>(value);
  const sign = (bits >> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // Below the normal range, adding 0.5 leaves the steps of 2^-24 in the last bits: the addition rounds.
  if (magnitude < 0x38800000) return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + <f32>0.5) - 0x3f000000);
  return sign | ((magnitude - 0x37fff001 + ((magnitude >> 13) & 1)) >> 13);
}

/** Rounds to binary16, stores, and returns the value that will be read back. */
export function storeHalf(address: usize, value: f32): f32 {
  const half = halfFromFloat(value);
  store<u16>(address, half);
  return floatFromHalf(half);
}

/** Four lanes of {@link halfFromFloat}, except that a NaN keeps its sign: for rows of given numbers. */
// @ts-ignore: decorator
@inline
export function halvesFromFloats(value: v128): v128 {
  const sign = v128.and(i32x4.shr_u(value, 16), i32x4.splat(0x8000));
  const magnitude = v128.and(value, i32x4.splat(0x7fffffff));
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.sub(magnitude, i32x4.splat(0x37fff001)), odd), 13);
  const small = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  let half = v128.bitselect(small, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)));
  half = v128.bitselect(i32x4.splat(0x7c00), half, i32x4.ge_s(magnitude, i32x4.splat(0x477ff000)));
  half = v128.bitselect(i32x4.splat(0x7e00), half, i32x4.gt_s(magnitude, i32x4.splat(INFINITE)));
  return v128.or(sign, half);
}

/** Four bfloat16 in the low halves: nearest even on the pattern; a NaN keeps its upper payload and becomes quiet. */
// @ts-ignore: decorator
@inline
export function bfloatsFromFloats(value: v128): v128 {
  const upper = i32x4.shr_u(value, 16);
  const odd = v128.and(upper, i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(value, i32x4.add(odd, i32x4.splat(0x7fff))), 16);
  return v128.bitselect(v128.or(upper, i32x4.splat(0x40)), rounded, f32x4.ne(value, value));
}

export function f16_encode(src: usize, dst: usize, count: i32): void {
  let i: i32 = 0;
  for (; i + 8 <= count; i += 8, src += 32, dst += 16) {
    v128.store(dst, i16x8.narrow_i32x4_u(halvesFromFloats(v128.load(src)), halvesFromFloats(v128.load(src, 16))));
  }
  for (; i < count; i++, src += 4, dst += 2) {
    store<u16>(dst, i32x4.extract_lane(halvesFromFloats(v128.load32_splat(src)), 0));
  }
}

export function f16_decode(src: usize, dst: usize, count: i32): void {
  let i: i32 = 0;
  for (; i + 4 <= count; i += 4, src += 8, dst += 16) {
    v128.store(dst, floatsFromHalves(v128.load16x4_u(src)));
  }
  for (; i < count; i++, src += 2, dst += 4) store<f32>(dst, loadHalf(src));
}

export function bf16_encode(src: usize, dst: usize, count: i32): void {
  let i: i32 = 0;
  for (; i + 8 <= count; i += 8, src += 32, dst += 16) {
    v128.store(dst, i16x8.narrow_i32x4_u(bfloatsFromFloats(v128.load(src)), bfloatsFromFloats(v128.load(src, 16))));
  }
  for (; i < count; i++, src += 4, dst += 2) {
    store<u16>(dst, i32x4.extract_lane(bfloatsFromFloats(v128.load32_splat(src)), 0));
  }
}

export function bf16_decode(src: usize, dst: usize, count: i32): void {
  let i: i32 = 0;
  for (; i + 4 <= count; i += 4, src += 8, dst += 16) v128.store(dst, i32x4.shl(v128.load16x4_u(src), 16));
  for (; i < count; i++, src += 2, dst += 4) store<u32>(dst, <u32>load<u16>(src) << 16);
}
