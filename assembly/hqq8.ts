// HQQ8: 8-bit codes, binary32 scale and zero per group of 64.

import { encode } from "./hqq";
import { decodeRun, matmulHqq } from "./hqq-decode";

export const HQQ8_BLOCK_ELEMENTS: i32 = 64;
export const HQQ8_BLOCK_BYTES: i32 = 72;

export function hqq8_quantize_mistralrs(src: usize, data: usize, scales: usize, zeros: usize, errors: usize, groups: i32): void {
  encode(src, data, scales, zeros, errors, groups, false, 8);
}

export function hqq8_dequantize_mistralrs(
  data: usize,
  scales: usize,
  zeros: usize,
  groups: i32,
  first: i32,
  count: i32,
  out: usize,
): void {
  decodeRun(data, scales, zeros, groups, first, count, out, false, 8);
}

export function hqq8_matmul_mistralrs(
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
): void {
  matmulHqq(codes, scales, zeros, groups, first, x, out, outputs, rows, width, outStride, false, 8);
}

export function hqq8_quantize_hqq(src: usize, data: usize, scales: usize, zeros: usize, errors: usize, groups: i32): void {
  encode(src, data, scales, zeros, errors, groups, true, 8);
}

export function hqq8_dequantize_hqq(
  data: usize,
  scales: usize,
  zeros: usize,
  groups: i32,
  first: i32,
  count: i32,
  out: usize,
): void {
  decodeRun(data, scales, zeros, groups, first, count, out, true, 8);
}

export function hqq8_matmul_hqq(
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
): void {
  matmulHqq(codes, scales, zeros, groups, first, x, out, outputs, rows, width, outStride, true, 8);
}
