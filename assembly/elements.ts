// What goes element by element, over `count` floats: out may be one of the inputs.

import { activate1, activate4 } from "./functions";

/** out = activation(gate)·up; activations by number, see functions.ts. */
export function gate_rows(gate: usize, up: usize, out: usize, count: i32, kind: i32): void {
  const bytes = <usize>count << 2;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) {
    v128.store(out + i, f32x4.mul(activate4(kind, v128.load(gate + i)), v128.load(up + i)));
  }
  for (; i < bytes; i += 4) store<f32>(out + i, activate1(kind, load<f32>(gate + i)) * load<f32>(up + i));
}

/** out = activation(x). */
export function activate_rows(x: usize, out: usize, count: i32, kind: i32): void {
  const bytes = <usize>count << 2;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) v128.store(out + i, activate4(kind, v128.load(x + i)));
  for (; i < bytes; i += 4) store<f32>(out + i, activate1(kind, load<f32>(x + i)));
}

/** out = a + b. */
export function add_rows(a: usize, b: usize, out: usize, count: i32): void {
  const bytes = <usize>count << 2;
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) v128.store(out + i, f32x4.add(v128.load(a + i), v128.load(b + i)));
  for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(a + i) + load<f32>(b + i));
}

/** out = a + b·scale. */
export function add_scaled_rows(a: usize, b: usize, out: usize, count: i32, scale: f32): void {
  const bytes = <usize>count << 2;
  const factors = f32x4.splat(scale);
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) {
    v128.store(out + i, f32x4.add(v128.load(a + i), f32x4.mul(v128.load(b + i), factors)));
  }
  for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(a + i) + load<f32>(b + i) * scale);
}

/** out = x·scale. */
export function scale_rows(x: usize, out: usize, count: i32, scale: f32): void {
  const bytes = <usize>count << 2;
  const factors = f32x4.splat(scale);
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) v128.store(out + i, f32x4.mul(v128.load(x + i), factors));
  for (; i < bytes; i += 4) store<f32>(out + i, load<f32>(x + i) * scale);
}

/** out = Σ_j weights[j]·x[j], from 0 in the order of j, of `rows` rows of `width` floats at x. */
export function combine_rows(x: usize, weights: usize, out: usize, rows: i32, width: i32): void {
  const bytes = <usize>width << 2;
  const end = weights + (<usize>rows << 2);
  let i: usize = 0;
  for (; i + 16 <= bytes; i += 16) {
    let sum = f32x4.splat(0);
    let at = x + i;
    for (let w = weights; w < end; w += 4, at += bytes) {
      sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(w), v128.load(at)));
    }
    v128.store(out + i, sum);
  }
  for (; i < bytes; i += 4) {
    let sum: f32 = 0;
    let at = x + i;
    for (let w = weights; w < end; w += 4, at += bytes) sum += load<f32>(w) * load<f32>(at);
    store<f32>(out + i, sum);
  }
}
