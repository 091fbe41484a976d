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

/** As the other matmuls; output row o starts at flat element (firstRow + o)·width. */
// @ts-ignore: decorator
@inline
export function matmulHqq(
  data: usize,
  scales: usize,
  zeros: usize,
  groups: i32,
  firstRow: i32,
  x: usize,
  out: usize,
  outputs: i32,
  rows: i32,
  width: i32,
  outStride: i32,
  contiguous: bool,
  bits: i32,
): void {
  for (; rows > 0; rows -= MOST_ROWS) {
    const count = min<i32>(rows, MOST_ROWS);
    for (let o = 0; o < outputs; o++) {
      clearSums(count);
      for (let first = 0; first < width; first += DECODED_ELEMENTS) {
        const elements = min<i32>(DECODED_ELEMENTS, width - first);
        decodeRun(data, scales, zeros, groups, (firstRow + o) * width + first, elements, DECODED, contiguous, bits);
        multiplyChunk(DECODED, x + (<usize>first << 2), elements, width, count);
      }
      storeOutput(out + (<usize>o << 2), count, outStride);
    }
    x += <usize>count * width * 4;
    out += <usize>count * outStride * 4;
  }
}
