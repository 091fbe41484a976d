// Decoding and multiplying HQQ: (code - zero)·scale, any run of a tensor's elements in flat order.

import { clearSums, MOST_ROWS, multiplyChunk, storeOutput } from "./dot-float";
import { DECODED, DECODED_ELEMENTS } from "./memory";

/** Code of member r of group j. */
// @ts-ignore: decorator
@inline
function codeAt(data: usize, groups: i32, j: i32, r: i32, bits: i32): i32 {
  if (bits == 8) return load<u8>(data + <usize>r * groups + j);
  const byte = <i32>load<u8>(data + <usize>(r & 31) * groups + j);
  return r < 32 ? byte >> 4 : byte & 15;
}

/** Elements `first` to `first + count` of the tensor to floats at `out`. */
// @ts-ignore: decorator
@inline
export function decodeRun(
  data: usize,
  scales: usize,
  zeros: usize,
  groups: i32,
  first: i32,
  count: i32,
  out: usize,
  contiguous: bool,
  bits: i32,
): void {
  const end = first + count;
  let i = first;
  while (i < end) {
    let j = contiguous ? i >> 6 : i % groups;
    const r = contiguous ? i & 63 : i / groups;
    if (!contiguous && i + 4 <= end && j + 4 <= groups) {
      const nibble = bits == 8 ? 0 : r < 32 ? 4 : 0;
      const mask = i32x4.splat(bits == 8 ? 255 : 15);
      const row = data + <usize>(bits == 8 ? r : r & 31) * groups;
      const last = min<i32>(groups - j, end - i) + j;
      for (; j + 4 <= last; j += 4, i += 4, out += 16) {
        const bytes = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(row + j)));
        const code = f32x4.convert_i32x4_s(v128.and(i32x4.shr_u(bytes, nibble), mask));
        const at = <usize>j << 2;
        v128.store(out, f32x4.mul(f32x4.sub(code, v128.load(zeros + at)), v128.load(scales + at)));
      }
      continue;
    }
    const code = <f32>codeAt(data, groups, j, r, bits);
    const at = <usize>j << 2;
    store<f32>(out, (code - load<f32>(zeros + at)) * load<f32>(scales + at));
    i++;
    out += 4;
  }
}

/**
 * Elements `first` to `first + count` of the tensor from codes in element order, two to a byte (the even element in the
 * low nibble) or one: how weights are kept for products, where rows are dealt out to several memories. `codes` is where
 * element `first` is, in the low nibble.
 */
// @ts-ignore: decorator
@inline
function decodeFlat(
  codes: usize,
  scales: usize,
  zeros: usize,
  groups: i32,
  first: i32,
  count: i32,
  out: usize,
  contiguous: bool,
  bits: i32,
): void {
  let i = 0;
  while (i < count) {
    const element = first + i;
    let j = contiguous ? element >> 6 : element % groups;
    const run = min<i32>(contiguous ? 64 - (element & 63) : groups - j, count - i);
    const end = i + run;
    if (!(i & 1)) {
      for (; i + 8 <= end; i += 8, out += 32) {
        const bytes = eightCodes(codes + (bits == 8 ? i : i >> 1), bits);
        const at = <usize>j << 2;
        const scale0 = contiguous ? v128.load32_splat(scales + at) : v128.load(scales + at);
        const scale1 = contiguous ? scale0 : v128.load(scales + at, 16);
        const zero0 = contiguous ? v128.load32_splat(zeros + at) : v128.load(zeros + at);
        const zero1 = contiguous ? zero0 : v128.load(zeros + at, 16);
        const code0 = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(bytes));
        const code1 = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(bytes));
        v128.store(out, f32x4.mul(f32x4.sub(code0, zero0), scale0));
        v128.store(out, f32x4.mul(f32x4.sub(code1, zero1), scale1), 16);
        if (!contiguous) j += 8;
      }
    }
    for (; i < end; i++, out += 4) {
      const byte = <i32>load<u8>(codes + (bits == 8 ? i : i >> 1));
      const code = <f32>(bits == 8 ? byte : i & 1 ? byte >> 4 : byte & 15);
      const at = <usize>j << 2;
      store<f32>(out, (code - load<f32>(zeros + at)) * load<f32>(scales + at));
      if (!contiguous) j++;
    }
  }
}

/** Eight codes as 16-bit integers. */
// @ts-ignore: decorator
@inline
function eightCodes(at: usize, bits: i32): v128 {
  if (bits == 8) return v128.load8x8_u(at);
  const bytes = v128.load32_zero(at);
  const low = v128.and(bytes, i8x16.splat(15));
  const high = i8x16.shr_u(bytes, 4);
  return i16x8.extend_low_i8x16_u(
    v128.shuffle<i8>(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
  );
}

/**
 * As the other matmuls, on codes in element order; rows of 4-bit codes start at whole bytes. Output row o starts at flat
 * element `first` + o·width.
 */
// @ts-ignore: decorator
@inline
export function matmulHqq(
  codes: usize,
  scales: usize,
  zeros: usize,
  groups: i32,
  first: i32,
  x: usize,
  out: usize,
  outputs: i32,
  rows: i32,
  width: i32,
  outStride: i32,
  contiguous: bool,
  bits: i32,
): void {
  const rowBytes = <usize>(bits == 8 ? width : (width + 1) >> 1);
  for (; rows > 0; rows -= MOST_ROWS) {
    const count = min<i32>(rows, MOST_ROWS);
    for (let o = 0; o < outputs; o++) {
      const row = codes + <usize>o * rowBytes;
      clearSums(count);
      for (let done = 0; done < width; done += DECODED_ELEMENTS) {
        const elements = min<i32>(DECODED_ELEMENTS, width - done);
        const run = row + <usize>(bits == 8 ? done : done >> 1);
        decodeFlat(run, scales, zeros, groups, first + o * width + done, elements, DECODED, contiguous, bits);
        multiplyChunk(DECODED, x + (<usize>done << 2), elements, width, count);
      }
      storeOutput(out + (<usize>o << 2), count, outStride);
    }
    x += <usize>count * width * 4;
    out += <usize>count * outStride * 4;
  }
}
