// Codes, scales and minima of one K-type block, laid out for the dot products and the decoders: codes as signed bytes in
// element order, scales and minima as 16-bit integers.

import { loadHalf } from "./f16";
import { UNPACKED, UNPACKED_D, UNPACKED_DMIN, UNPACKED_MINS, UNPACKED_SCALES } from "./memory";

/** Bytes 0..15 of a vector as sixteen 16-bit integers at `out`. */
// @ts-ignore: decorator
@inline
function storeWide(bytes: v128, out: usize): void {
  v128.store(out, i16x8.extend_low_i8x16_s(bytes));
  v128.store(out, i16x8.extend_high_i8x16_s(bytes), 16);
}

/** The eight 6-bit scales and eight minima of a Q4_K or Q5_K block, from its twelve packed bytes, four bytes at a time. */
// @ts-ignore: decorator
@inline
export function unpackSixBitPairs(block: usize): void {
  const first = load<u32>(block, 4);
  const second = load<u32>(block, 8);
  const third = load<u32>(block, 12);
  const low = 0x3f3f3f3f;
  const scales = (third & 0x0f0f0f0f) | ((first & 0xc0c0c0c0) >>> 2);
  const mins = ((third >>> 4) & 0x0f0f0f0f) | ((second & 0xc0c0c0c0) >>> 2);
  const packed = i32x4(first & low, scales, second & low, mins);
  v128.store(UNPACKED_SCALES, i16x8.extend_low_i8x16_u(packed));
  v128.store(UNPACKED_MINS, i16x8.extend_high_i8x16_u(packed));
}

/** Q3_K's sixteen scales, 32 taken off. */
// @ts-ignore: decorator
@inline
export function unpackSixBitScales(block: usize): void {
  const low = v128.load64_zero(block, 96);
  const high = load<u32>(block, 104);
  const nibbles = v128.shuffle<i64>(v128.and(low, i8x16.splat(15)), i8x16.shr_u(low, 4), 0, 2);
  const upper = v128.and(i32x4(high << 4, high << 2, high, high >>> 2), i8x16.splat(0x30));
  storeWide(i8x16.sub(v128.or(nibbles, upper), i8x16.splat(32)), UNPACKED_SCALES);
}

/** Codes of a Q4_K (N = 15) or Q5_K (N = 31) block. */
// @ts-ignore: decorator
@inline
function unpackNibblePlanes(block: usize, N: i32): void {
  const mask = i8x16.splat(15);
  for (let half: usize = 0; half < 32; half += 16) {
    let high = N == 31 ? v128.load(block + half, 16) : mask;
    for (let g: usize = 0; g < 4; g++) {
      const bytes = v128.load(block + (g << 5) + half + (N == 31 ? 48 : 16));
      let a = v128.and(bytes, mask);
      let b = i8x16.shr_u(bytes, 4);
      if (N == 31) {
        a = v128.or(a, v128.and(i8x16.shl(high, 4), i8x16.splat(16)));
        b = v128.or(b, v128.and(i8x16.shl(high, 3), i8x16.splat(16)));
        high = i8x16.shr_u(high, 2);
      }
      v128.store(UNPACKED + half + (g << 6), a);
      v128.store(UNPACKED + half + (g << 6), b, 32);
    }
  }
}

// @ts-ignore: decorator
@inline
export function unpackQ4K(block: usize): void {
  store<f32>(UNPACKED_D, loadHalf(block));
  store<f32>(UNPACKED_DMIN, loadHalf(block + 2));
  unpackSixBitPairs(block);
  unpackNibblePlanes(block, 15);
}

// @ts-ignore: decorator
@inline
export function unpackQ5K(block: usize): void {
  store<f32>(UNPACKED_D, loadHalf(block));
  store<f32>(UNPACKED_DMIN, loadHalf(block + 2));
  unpackSixBitPairs(block);
  unpackNibblePlanes(block, 31);
}

// @ts-ignore: decorator
@inline
export function unpackQ2K(block: usize): void {
  store<f32>(UNPACKED_D, loadHalf(block + 80));
  store<f32>(UNPACKED_DMIN, loadHalf(block + 82));
  const packed = v128.load(block);
  storeWide(v128.and(packed, i8x16.splat(15)), UNPACKED_SCALES);
  storeWide(i8x16.shr_u(packed, 4), UNPACKED_MINS);
  const mask = i8x16.splat(3);
  for (let at: usize = 0; at < 64; at += 16) {
    let bytes = v128.load(block + at, 16);
    const out = UNPACKED + ((at & 32) << 2) + (at & 16);
    for (let k: usize = 0; k < 128; k += 32) {
      v128.store(out + k, v128.and(bytes, mask));
      bytes = i8x16.shr_u(bytes, 2);
    }
  }
}

// @ts-ignore: decorator
@inline
export function unpackQ3K(block: usize): void {
  store<f32>(UNPACKED_D, loadHalf(block + 108));
  unpackSixBitScales(block);
  const three = i8x16.splat(3);
  const four = i8x16.splat(4);
  for (let p: usize = 0; p < 32; p += 16) {
    let mask = v128.load(block + p);
    for (let half: usize = 0; half < 2; half++) {
      let low = v128.load(block + (half << 5) + p, 32);
      const out = UNPACKED + (half << 7) + p;
      for (let k: usize = 0; k < 128; k += 32) {
        const code = v128.or(v128.and(low, three), v128.and(i8x16.shl(mask, 2), four));
        v128.store(out + k, i8x16.sub(code, four));
        low = i8x16.shr_u(low, 2);
        mask = i8x16.shr_u(mask, 1);
      }
    }
  }
}

// @ts-ignore: decorator
@inline
export function unpackQ6K(block: usize): void {
  store<f32>(UNPACKED_D, loadHalf(block + 208));
  storeWide(v128.load(block, 192), UNPACKED_SCALES);
  const mask = i8x16.splat(15);
  const three = i8x16.splat(0x30);
  const offset = i8x16.splat(32);
  for (let half: usize = 0; half < 2; half++) {
    for (let p: usize = 0; p < 32; p += 16) {
      const ac = v128.load(block + (half << 6) + p);
      const be = v128.load(block + (half << 6) + p, 32);
      const high = v128.load(block + (half << 5) + p, 128);
      const a = v128.or(v128.and(ac, mask), v128.and(i8x16.shl(high, 4), three));
      const b = v128.or(v128.and(be, mask), v128.and(i8x16.shl(high, 2), three));
      const c = v128.or(i8x16.shr_u(ac, 4), v128.and(high, three));
      const e = v128.or(i8x16.shr_u(be, 4), v128.and(i8x16.shr_u(high, 2), three));
      const out = UNPACKED + (half << 7) + p;
      v128.store(out, i8x16.sub(a, offset));
      v128.store(out, i8x16.sub(b, offset), 32);
      v128.store(out, i8x16.sub(c, offset), 64);
      v128.store(out, i8x16.sub(e, offset), 96);
    }
  }
}
