// FP8, E4M3 codes with one scale per tensor: a peak over the whole tensor, then codes; see src/quants/fp8.ts. Both steps
// may be split over ranges: the peak of peaks is the peak.

import { bfloatsFromFloats } from "./f16";
import { largestLane, packBytes } from "./lanes";
import { multiplyChunk, storeOutput, clearSums, MOST_ROWS } from "./dot-float";
import { DECODED, DECODED_ELEMENTS } from "./memory";

/** Largest magnitude of `count` floats. */
export function fp8_peak(src: usize, count: i32): f32 {
  let peak = f32x4.splat(0);
  let i: i32 = 0;
  for (; i + 4 <= count; i += 4, src += 16) peak = f32x4.pmax(peak, f32x4.abs(v128.load(src)));
  let most = largestLane(peak);
  for (; i < count; i++, src += 4) most = max<f32>(most, abs<f32>(load<f32>(src)));
  return most;
}

/** bfloat16 and back. */
// @ts-ignore: decorator
@inline
function throughBfloat(v: v128): v128 {
  return i32x4.shl(bfloatsFromFloats(v), 16);
}

/** The scale of `ocp` for a peak: what codes are multiplied by. */
export function fp8_scale_ocp(peak: f32): f32 {
  return peak == 0 ? 1 : peak / 448;
}

/** The scale of `mistralrs` for a peak: what weights are multiplied by. Rounding is monotonic: the peak rounds too. */
export function fp8_scale_mistralrs(peak: f32): f32 {
  const rounded = f32x4.extract_lane(throughBfloat(f32x4.splat(peak)), 0);
  return rounded == 0 ? 416 : min<f32>(<f32>416 / rounded, 416);
}

/** Nearest E4M3 codes, ties to even; 448 and above give 0x7E, NaN 0x7F. */
// @ts-ignore: decorator
@inline
function codes(v: v128): v128 {
  const magnitude = v128.and(v, i32x4.splat(0x7fffffff));
  const odd = v128.and(i32x4.shr_u(magnitude, 20), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.sub(magnitude, i32x4.splat(0x3bf80001)), odd), 20);
  // Subnormal codes are steps of 2^-9: adding 2^14 leaves them in the last bits.
  const small = i32x4.sub(f32x4.add(magnitude, f32x4.splat(16384)), i32x4.splat(0x46800000));
  let code = v128.bitselect(small, normal, i32x4.lt_s(magnitude, i32x4.splat(0x3c800000)));
  code = v128.bitselect(i32x4.splat(0x7e), code, i32x4.ge_s(magnitude, i32x4.splat(0x43e00000)));
  code = v128.or(code, v128.and(i32x4.shr_u(v, 24), i32x4.splat(0x80)));
  return v128.bitselect(i32x4.splat(0x7f), code, f32x4.ne(v, v));
}

// @ts-ignore: decorator
@inline
function encodeFour(v: v128, factor: v128, ocp: bool): v128 {
  if (ocp) return codes(f32x4.div(v, factor));
  return codes(throughBfloat(f32x4.mul(throughBfloat(v), factor)));
}

// @ts-ignore: decorator
@inline
function encode(src: usize, dst: usize, count: i32, factor: v128, ocp: bool): void {
  let i: i32 = 0;
  for (; i + 16 <= count; i += 16, src += 64, dst += 16) {
    v128.store(
      dst,
      packBytes(
        encodeFour(v128.load(src), factor, ocp),
        encodeFour(v128.load(src, 16), factor, ocp),
        encodeFour(v128.load(src, 32), factor, ocp),
        encodeFour(v128.load(src, 48), factor, ocp),
      ),
    );
  }
  for (; i < count; i++, src += 4, dst++) {
    store<u8>(dst, i32x4.extract_lane(encodeFour(v128.load32_splat(src), factor, ocp), 0));
  }
}

export function fp8_encode_ocp(src: usize, dst: usize, count: i32, scale: f32): void {
  encode(src, dst, count, f32x4.splat(scale), true);
}

export function fp8_encode_mistralrs(src: usize, dst: usize, count: i32, scale: f32): void {
  encode(src, dst, count, throughBfloat(f32x4.splat(scale)), false);
}

/** Four codes in the lanes to their values: the bits moved into place are too small by 2^120. */
// @ts-ignore: decorator
@inline
function values(bytes: v128): v128 {
  const magnitude = v128.and(bytes, i32x4.splat(0x7f));
  const value = f32x4.mul(i32x4.shl(magnitude, 20), i32x4.splat(0x7b800000));
  const nan = v128.and(i32x4.eq(magnitude, i32x4.splat(0x7f)), i32x4.splat(0x7fc00000));
  return v128.or(v128.or(value, nan), i32x4.shl(v128.and(bytes, i32x4.splat(0x80)), 24));
}

export function fp8_dequantize(src: usize, dst: usize, count: i32, scale: f32): void {
  const factor = f32x4.splat(scale);
  let i: i32 = 0;
  for (; i + 4 <= count; i += 4, src += 4, dst += 16) {
    const bytes = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(src)));
    v128.store(dst, f32x4.mul(values(bytes), factor));
  }
  for (; i < count; i++, src++, dst += 4) {
    store<f32>(dst, f32x4.extract_lane(f32x4.mul(values(i32x4.splat(load<u8>(src))), factor), 0));
  }
}

/** out[r·outStride + o] = eight-lane dot of the decoded weight row o with activation row r (binary32). */
export function fp8_matmul(
  weights: usize,
  scale: f32,
  activations: usize,
  out: usize,
  outputs: i32,
  rows: i32,
  width: i32,
  outStride: i32,
): void {
  for (; rows > 0; rows -= MOST_ROWS) {
    const count = min<i32>(rows, MOST_ROWS);
    for (let o = 0; o < outputs; o++) {
      clearSums(count);
      for (let first = 0; first < width; first += DECODED_ELEMENTS) {
        const elements = min<i32>(DECODED_ELEMENTS, width - first);
        fp8_dequantize(weights + <usize>o * width + first, DECODED, elements, scale);
        multiplyChunk(DECODED, activations + (<usize>first << 2), elements, width, count);
      }
      storeOutput(out + (<usize>o << 2), count, outStride);
    }
    activations += <usize>count * width * 4;
    out += <usize>count * outStride * 4;
  }
}
