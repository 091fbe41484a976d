// The importance encoders of Q4_0, Q5_0 (QX) and Q4_1, Q5_1 (QKX): eight blocks of a row in eight lanes. A row whose
// block count is no multiple of eight is padded with copies of its last block.

import { storeHalf } from "./f16";
import { sumOfSquares } from "./importance";
import { codeInts, packBytes, storeTransposed } from "./lanes";
import { FIT_ISCALE, FIT_LOW, FIT_MIN, FIT_SCALE, W_A, X_A } from "./memory";
import { searchAffine } from "./search-affine";
import { searchSymmetric } from "./search-symmetric";
import { storeAffine32 } from "./affine32";
import { storeSymmetric32 } from "./symmetric32";

/** Transposes eight blocks, the last one repeated from `valid` on, and their weights. */
function loadOctet(x: usize, importance: usize, sigma2: f32, valid: i32): void {
  const sigma = f32x4.splat(sigma2);
  for (let half = 0; half < 2; half++) {
    const b0 = <usize>min<i32>(half * 4, valid - 1) << 7;
    const b1 = <usize>min<i32>(half * 4 + 1, valid - 1) << 7;
    const b2 = <usize>min<i32>(half * 4 + 2, valid - 1) << 7;
    const b3 = <usize>min<i32>(half * 4 + 3, valid - 1) << 7;
    const out = <usize>half * 512;
    for (let i: usize = 0; i < 128; i += 16) {
      const x0 = v128.load(x + i + b0);
      const x1 = v128.load(x + i + b1);
      const x2 = v128.load(x + i + b2);
      const x3 = v128.load(x + i + b3);
      storeTransposed(x0, x1, x2, x3, X_A + out + (i << 2));
      const q = importance + i;
      storeTransposed(
        f32x4.mul(v128.load(q + b0), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(x0, x0)))),
        f32x4.mul(v128.load(q + b1), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(x1, x1)))),
        f32x4.mul(v128.load(q + b2), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(x2, x2)))),
        f32x4.mul(v128.load(q + b3), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(x3, x3)))),
        W_A + out + (i << 2),
      );
    }
  }
}

/** Sixteen codes clamp(nearest(iscale·(x - low)), 0, N). */
// @ts-ignore: decorator
@inline
function affineCodes(x: usize, iscale: v128, low: v128, N: i32): v128 {
  return packBytes(
    codeInts(f32x4.mul(iscale, f32x4.sub(v128.load(x), low)), 0, N, false),
    codeInts(f32x4.mul(iscale, f32x4.sub(v128.load(x, 16), low)), 0, N, false),
    codeInts(f32x4.mul(iscale, f32x4.sub(v128.load(x, 32), low)), 0, N, false),
    codeInts(f32x4.mul(iscale, f32x4.sub(v128.load(x, 48), low)), 0, N, false),
  );
}

/** Sixteen codes clamp(nearest(iscale·x), -N, N-1) + N. */
// @ts-ignore: decorator
@inline
function symmetricCodes(x: usize, iscale: v128, N: i32): v128 {
  const offset = i32x4.splat(N);
  return packBytes(
    i32x4.add(codeInts(f32x4.mul(iscale, v128.load(x)), -N, N - 1, false), offset),
    i32x4.add(codeInts(f32x4.mul(iscale, v128.load(x, 16)), -N, N - 1, false), offset),
    i32x4.add(codeInts(f32x4.mul(iscale, v128.load(x, 32)), -N, N - 1, false), offset),
    i32x4.add(codeInts(f32x4.mul(iscale, v128.load(x, 48)), -N, N - 1, false), offset),
  );
}

/** Rows of Q4_1 (N = 15) or Q5_1 (N = 31). */
// @ts-ignore: decorator
@inline
export function searchAffineRows(x: usize, importance: usize, out: usize, rows: i32, width: i32, N: i32, bytes: usize): void {
  for (let row = 0; row < rows; row++) {
    const sigma2 = sumOfSquares(x, width) / <f32>width;
    let q = importance;
    for (let left = width >> 5; left > 0; left -= 8) {
      const valid = min<i32>(left, 8);
      loadOctet(x, q, sigma2, valid);
      searchAffine(0, 32, N, -0.9, <f32>0.05, 36, false, false);
      for (let b: usize = 0; b < <usize>valid; b++, x += 128, q += 128, out += bytes) {
        storeHalf(out, load<f32>(FIT_SCALE + (b << 2)));
        storeHalf(out + 2, -load<f32>(FIT_MIN + (b << 2)));
        const iscale = v128.load32_splat(FIT_ISCALE + (b << 2));
        const low = v128.load32_splat(FIT_LOW + (b << 2));
        storeAffine32(affineCodes(x, iscale, low, N), affineCodes(x + 64, iscale, low, N), out, N);
      }
    }
  }
}

/** Rows of Q4_0 (N = 8) or Q5_0 (N = 16). */
// @ts-ignore: decorator
@inline
export function searchSymmetricRows(x: usize, importance: usize, out: usize, rows: i32, width: i32, N: i32, bytes: usize): void {
  for (let row = 0; row < rows; row++) {
    const sigma2 = sumOfSquares(x, width) / <f32>width;
    let q = importance;
    for (let left = width >> 5; left > 0; left -= 8) {
      const valid = min<i32>(left, 8);
      loadOctet(x, q, sigma2, valid);
      searchSymmetric(0, 32, N);
      for (let b: usize = 0; b < <usize>valid; b++, x += 128, q += 128, out += bytes) {
        storeHalf(out, load<f32>(FIT_SCALE + (b << 2)));
        const iscale = v128.load32_splat(FIT_ISCALE + (b << 2));
        const live = v128.load32_splat(FIT_LOW + (b << 2));
        storeSymmetric32(
          v128.and(symmetricCodes(x, iscale, N), live),
          v128.and(symmetricCodes(x + 64, iscale, N), live),
          out,
          N,
        );
      }
    }
  }
}
