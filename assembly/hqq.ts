// HQQ in groups of 64, shared by HQQ4 and HQQ8; see src/quants/hqq.ts. Four groups in four lanes. Member r of group j is the
// float at src + 4·(j·groupStride + r·memberStride): strides (1, M) for `mistralrs`, (64, 1) for `hqq`.
//
// The stop test looks at all groups, so the steps are exports of their own: workers take ranges of groups, and whoever
// leads adds the groups' errors in group order and says when to stop. `encode` is the same for one thread.

import { codeLanes, MAGIC, storeTransposed } from "./lanes";
import { pow64 } from "./math";
import { HQQ_GROUPS } from "./memory";

const NEVER_SHRUNK: f32 = 0.125;
const EXPONENT: f64 = <f64>(<f32>0.7 - <f32>1);
const MEAN: f32 = 0.015625;

/** Copies four groups to HQQ_GROUPS, a vector per member; `valid` exist, the last stands in for the others. */
function loadGroups(src: usize, groupStride: usize, memberStride: usize, valid: i32): void {
  const member = memberStride << 2;
  if (groupStride == 1 && valid == 4) {
    for (let i: usize = 0; i < 1024; i += 16, src += member) v128.store(HQQ_GROUPS + i, v128.load(src));
    return;
  }
  const g1 = src + <usize>min<i32>(1, valid - 1) * (groupStride << 2);
  const g2 = src + <usize>min<i32>(2, valid - 1) * (groupStride << 2);
  const g3 = src + <usize>min<i32>(3, valid - 1) * (groupStride << 2);
  if (memberStride == 1) {
    for (let i: usize = 0; i < 256; i += 16) {
      storeTransposed(v128.load(src + i), v128.load(g1 + i), v128.load(g2 + i), v128.load(g3 + i), HQQ_GROUPS + (i << 2));
    }
    return;
  }
  for (let i: usize = 0, at: usize = 0; i < 1024; i += 16, at += member) {
    v128.store(HQQ_GROUPS + i, f32x4(load<f32>(src + at), load<f32>(g1 + at), load<f32>(g2 + at), load<f32>(g3 + at)));
  }
}

/** Stores the first `valid` lanes. */
// @ts-ignore: decorator
@inline
function storeLanes(at: usize, v: v128, valid: i32): void {
  if (valid == 4) {
    v128.store(at, v);
    return;
  }
  store<f32>(at, f32x4.extract_lane(v, 0));
  if (valid > 1) store<f32>(at, f32x4.extract_lane(v, 1), 4);
  if (valid > 2) store<f32>(at, f32x4.extract_lane(v, 2), 8);
}

/** Loads `valid` lanes, the last one repeated. */
// @ts-ignore: decorator
@inline
function loadLanes(at: usize, valid: i32): v128 {
  if (valid == 4) return v128.load(at);
  const last = <usize>(valid - 1) << 2;
  return f32x4(load<f32>(at), load<f32>(at + min<usize>(4, last)), load<f32>(at + last), load<f32>(at + last));
}

/** First multiplier and zero of `groups` groups. */
export function hqq_begin(src: usize, s: usize, z: usize, groups: i32, groupStride: i32, memberStride: i32, largest: i32): void {
  for (let j = 0; j < groups; j += 4, s += 16, z += 16, src += <usize>groupStride << 4) {
    const valid = min<i32>(4, groups - j);
    loadGroups(src, groupStride, memberStride, valid);
    let low = v128.load(HQQ_GROUPS);
    let high = low;
    for (let i: usize = 16; i < 1024; i += 16) {
      low = f32x4.min(low, v128.load(HQQ_GROUPS + i));
      high = f32x4.max(high, v128.load(HQQ_GROUPS + i));
    }
    const inverse = f32x4.div(f32x4.splat(1), f32x4.sub(high, low));
    const scale = f32x4.min(f32x4.mul(inverse, f32x4.splat(<f32>largest)), f32x4.splat(20000));
    storeLanes(s, scale, valid);
    storeLanes(z, f32x4.mul(f32x4.neg(low), scale), valid);
  }
}

/** sign(x)·max(0, |x| - inverseBeta·|x|^(p-1)) of one value above NEVER_SHRUNK. */
function shrink(x: f32, inverseBeta: f32): f32 {
  const a = abs<f32>(x);
  if (!(a > NEVER_SHRUNK)) return 0;
  if (a == Infinity) return x; // its power is 0
  const t = inverseBeta * <f32>pow64(<f64>a, EXPONENT);
  return a > t ? copysign<f32>(a - t, x) : 0;
}

/** Ordinary weights never get here: their residuals are far below NEVER_SHRUNK. */
function shrinkLanes(x: v128, inverseBeta: f32): v128 {
  return f32x4(
    shrink(f32x4.extract_lane(x, 0), inverseBeta),
    shrink(f32x4.extract_lane(x, 1), inverseBeta),
    shrink(f32x4.extract_lane(x, 2), inverseBeta),
    shrink(f32x4.extract_lane(x, 3), inverseBeta),
  );
}

/** One round: moves every zero and leaves each group's Σ |residual| before the move in `errors`. */
export function hqq_round(
  src: usize,
  s: usize,
  z: usize,
  errors: usize,
  groups: i32,
  groupStride: i32,
  memberStride: i32,
  largest: i32,
  inverseBeta: f32,
): void {
  const bound = f32x4.splat(NEVER_SHRUNK);
  for (let j = 0; j < groups; j += 4, s += 16, z += 16, errors += 16, src += <usize>groupStride << 4) {
    const valid = min<i32>(4, groups - j);
    loadGroups(src, groupStride, memberStride, valid);
    const scale = loadLanes(s, valid);
    const zero = loadLanes(z, valid);
    let error = f32x4.splat(0);
    let sum = f32x4.splat(-0.0); // -0 + y is y for every y, as a sum that starts with its first term
    for (let i: usize = 0; i < 1024; i += 16) {
      const v = v128.load(HQQ_GROUPS + i);
      const q = code(v, scale, zero, largest);
      const x = f32x4.sub(v, f32x4.div(f32x4.sub(q, zero), scale));
      const a = f32x4.abs(x);
      let kept = v;
      if (v128.any_true(f32x4.gt(a, bound))) kept = f32x4.sub(v, shrinkLanes(x, inverseBeta));
      sum = f32x4.add(sum, f32x4.sub(q, f32x4.mul(kept, scale)));
      error = f32x4.add(error, a);
    }
    storeLanes(z, f32x4.mul(sum, f32x4.splat(MEAN)), valid);
    storeLanes(errors, error, valid);
  }
}

/** clamp(round((v·s) + z), 0, largest), ties away from zero. `largest` is 15 or 255. */
// @ts-ignore: decorator
@inline
function code(v: v128, scale: v128, zero: v128, largest: i32): v128 {
  return codeLanes(f32x4.add(f32x4.mul(v, scale), zero), 0, largest, true);
}

/** `total` plus the errors of `groups` groups, in group order. */
export function hqq_sum(errors: usize, groups: i32, total: f64): f64 {
  for (let j = 0; j < groups; j++, errors += 4) total += <f64>load<f32>(errors);
  return total;
}

/**
 * Codes of `groups` groups, and 1 / s in place of s. `data` is where the first group's codes start; a member's codes
 * are `columns` (all groups of the tensor) apart. 8 bit: a byte each; 4 bit: members r and r + 32 in one byte.
 */
export function hqq_finish(
  src: usize,
  s: usize,
  z: usize,
  data: usize,
  groups: i32,
  columns: i32,
  groupStride: i32,
  memberStride: i32,
  bits: i32,
): void {
  const largest = (1 << bits) - 1;
  const members: usize = bits == 8 ? 64 : 32;
  for (let j = 0; j < groups; j += 4, s += 16, z += 16, data += 4, src += <usize>groupStride << 4) {
    const valid = min<i32>(4, groups - j);
    loadGroups(src, groupStride, memberStride, valid);
    const scale = loadLanes(s, valid);
    const zero = loadLanes(z, valid);
    for (let r: usize = 0; r < members; r++) {
      let byte = integer(code(v128.load(HQQ_GROUPS + (r << 4)), scale, zero, largest));
      if (bits == 4) {
        const second = integer(code(v128.load(HQQ_GROUPS + ((r + 32) << 4)), scale, zero, largest));
        byte = v128.or(i32x4.shl(byte, 4), second);
      }
      storeBytes(data + r * columns, byte, valid);
    }
    storeLanes(s, f32x4.div(f32x4.splat(1), scale), valid);
  }
}

// @ts-ignore: decorator
@inline
function integer(c: v128): v128 {
  return v128.and(f32x4.add(c, f32x4.splat(MAGIC)), i32x4.splat(0xff));
}

// @ts-ignore: decorator
@inline
function storeBytes(at: usize, v: v128, valid: i32): void {
  const bytes = i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_u(v, v), v);
  if (valid == 4) {
    store<i32>(at, i32x4.extract_lane(bytes, 0));
    return;
  }
  store<u8>(at, i8x16.extract_lane_u(bytes, 0));
  if (valid > 1) store<u8>(at, i8x16.extract_lane_u(bytes, 1), 1);
  if (valid > 2) store<u8>(at, i8x16.extract_lane_u(bytes, 2), 2);
}

/** A whole tensor of `groups` groups. `errors` is room for a float per group. */
export function encode(
  src: usize,
  data: usize,
  scales: usize,
  zeros: usize,
  errors: usize,
  groups: i32,
  contiguous: bool,
  bits: i32,
): void {
  const largest = (1 << bits) - 1;
  const groupStride = contiguous ? 64 : 1;
  const memberStride = contiguous ? 1 : groups;
  hqq_begin(src, scales, zeros, groups, groupStride, memberStride, largest);
  let beta: f64 = 10;
  let best: f32 = 10000;
  for (let round = 0; round < 10; round++, beta *= 1.01) {
    hqq_round(src, scales, zeros, errors, groups, groupStride, memberStride, largest, <f32>(1 / beta));
    const error = <f32>(hqq_sum(errors, groups, 0) / (<f64>groups * 64));
    if (!(error < best)) break; // the zeros of this last round are kept
    best = error;
  }
  hqq_finish(src, scales, zeros, data, groups, groups, groupStride, memberStride, bits);
}
