// HQQ4: 4-bit codes, binary32 scale and zero per group of 64.

import { encode } from "./hqq";
import { decodeRun, matmulHqq } from "./hqq-decode";

export const HQQ4_BLOCK_ELEMENTS: i32 = 64;
export const HQQ4_BLOCK_BYTES: i32 = 40;

export function hqq4_quantize_mistralrs(src: usize, data: usize, scales: usize, zeros: usize, errors: usize, groups: i32): void {
  encode(src, data, scales, zeros, errors, groups, false, 4);
}

export function hqq4_dequantize_mistralrs(
  data: usize,
  scales: usize,
  zeros: usize,
  groups: i32,
  first: i32,
  count: i32,
  out: usize,
): void {
  decodeRun(data, scales, zeros, groups, first, count, out, false, 4);
}

export function hqq4_matmul_mistralrs(
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
  matmulHqq(codes, scales, zeros, groups, first, x, out, outputs, rows, width, outStride, false, 4);
}

export function hqq4_quantize_hqq(src: usize, data: usize, scales: usize, zeros: usize, errors: usize, groups: i32): void {
  encode(src, data, scales, zeros, errors, groups, true, 4);
}

export function hqq4_dequantize_hqq(
  data: usize,
  scales: usize,
  zeros: usize,
  groups: i32,
  first: i32,
  count: i32,
  out: usize,
): void {
  decodeRun(data, scales, zeros, groups, first, count, out, true, 4);
}

export function hqq4_matmul_hqq(
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
  matmulHqq(codes, scales, zeros, groups, first, x, out, outputs, rows, width, outStride, true, 4);
}
