// Choosing tokens: the two passes over all logits. They repeat src/model/logits.ts bit for bit.

import { exp4 } from "./functions";

/** The index of the largest of `count` floats, the lowest among equals; -1 when one is NaN. */
export function logits_largest(src: usize, count: i32): i32 {
  const end = src + (<usize>count << 2);
  const whole = src + (<usize>(count & ~3) << 2);
  let most = f32x4.splat(-Infinity);
  let numbers = i32x4.splat(-1);
  for (let at = src; at < whole; at += 16) {
    const x = v128.load(at);
    numbers = v128.and(numbers, f32x4.eq(x, x));
    most = f32x4.pmax(most, x);
  }
  let largest = f32x4.extract_lane(most, 0);
  largest = max<f32>(largest, f32x4.extract_lane(most, 1));
  largest = max<f32>(largest, f32x4.extract_lane(most, 2));
  largest = max<f32>(largest, f32x4.extract_lane(most, 3));
  let isNumber = i32x4.all_true(numbers);
  for (let at = whole; at < end; at += 4) {
    const x = load<f32>(at);
    isNumber = isNumber && x == x;
    largest = max<f32>(largest, x);
  }
  if (!isNumber) return -1;
  const wanted = f32x4.splat(largest);
  let at = src;
  for (; at < whole; at += 16) {
    const found = i32x4.bitmask(f32x4.eq(v128.load(at), wanted));
    if (found != 0) return <i32>((at - src) >> 2) + ctz<i32>(found);
  }
  while (load<f32>(at) != largest) at += 4;
  return <i32>((at - src) >> 2);
}

/** exp((logit - most) / temperature) of `count` floats; 1 where the logit is `most`. May run over the end by three floats. */
export function logits_weights(src: usize, dst: usize, count: i32, most: f32, temperature: f32): void {
  const one = f32x4.splat(1);
  const top = f32x4.splat(most);
  const divisor = f32x4.splat(temperature);
  for (let i: usize = 0; i < <usize>count << 2; i += 16) {
    const x = v128.load(src + i);
    const weight = exp4(f32x4.div(f32x4.sub(x, top), divisor));
    v128.store(dst + i, v128.bitselect(one, weight, f32x4.eq(x, top)));
  }
}
