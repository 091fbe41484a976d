// Elementary functions and activations in four lanes: src/math.ts and ACTIVATIONS of src/backends/reference-kernels.ts, step by
// step.

const LN2_HIGH: f32 = 0.693359375;
const LN2_LOW: f32 = <f32>-2.12194440054690583e-4;
const LOG2E: f32 = <f32>1.4426950408889634;
const MAGIC: f32 = 12582912;
const UNDERFLOW: f32 = <f32>-87.33654;
const OVERFLOW: f32 = <f32>88.72283;
const C7: f32 = <f32>(1.0 / 5040.0);
const C6: f32 = <f32>(1.0 / 720.0);
const C5: f32 = <f32>(1.0 / 120.0);
const C4: f32 = <f32>(1.0 / 24.0);
const C3: f32 = <f32>(1.0 / 6.0);
const C2: f32 = 0.5;

/** e^x of four lanes; src/math.ts `exp32` step by step. NaN stays NaN, > 88.72 gives infinity, < -87.33 gives 0. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  const magic = f32x4.splat(MAGIC);
  const shifted = f32x4.add(f32x4.mul(x, f32x4.splat(LOG2E)), magic);
  const k = f32x4.sub(shifted, magic);
  const r = f32x4.sub(f32x4.sub(x, f32x4.mul(k, f32x4.splat(LN2_HIGH))), f32x4.mul(k, f32x4.splat(LN2_LOW)));
  let p = f32x4.add(f32x4.mul(f32x4.splat(C7), r), f32x4.splat(C6));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(C5));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(C4));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(C3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(C2));
  const y = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), f32x4.splat(1));
  // k as an integer sits in the low bits of `shifted`: 0x4B400000 + k.
  const integer = i32x4.sub(shifted, i32x4.splat(0x4b400000));
  const half = i32x4.shr_s(integer, 1);
  const low = i32x4.shl(i32x4.add(half, i32x4.splat(127)), 23);
  const high = i32x4.shl(i32x4.add(i32x4.sub(integer, half), i32x4.splat(127)), 23);
  let result = f32x4.mul(f32x4.mul(y, low), high);
  result = v128.andnot(result, f32x4.lt(x, f32x4.splat(UNDERFLOW)));
  result = v128.bitselect(f32x4.splat(Infinity), result, f32x4.gt(x, f32x4.splat(OVERFLOW)));
  return v128.bitselect(x, result, f32x4.ne(x, x));
}

/** The same of one value. */
// @ts-ignore: decorator
@inline
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

/** |x| with x's sign bit taken, and x's sign bit. */
const SIGN: i32 = 0x80000000;

const TANH_SMALL: f32 = 0.25;
const T9: f32 = <f32>(62.0 / 2835.0);
const T7: f32 = <f32>(-17.0 / 315.0);
const T5: f32 = <f32>(2.0 / 15.0);
const T3: f32 = <f32>(-1.0 / 3.0);

/** tanh32 of four lanes. */
// @ts-ignore: decorator
@inline
export function tanh4(x: v128): v128 {
  const one = f32x4.splat(1);
  const size = f32x4.abs(x);
  const z = f32x4.mul(x, x);
  let p = f32x4.add(f32x4.mul(f32x4.splat(T9), z), f32x4.splat(T7));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(T5));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(T3));
  const small = f32x4.add(x, f32x4.mul(x, f32x4.mul(z, p)));
  const t = exp4(f32x4.mul(size, f32x4.splat(-2)));
  const y = f32x4.div(f32x4.sub(one, t), f32x4.add(one, t));
  const large = v128.or(y, v128.and(x, i32x4.splat(SIGN)));
  return v128.bitselect(small, large, f32x4.lt(size, f32x4.splat(TANH_SMALL)));
}

// @ts-ignore: decorator
@inline
export function tanh1(x: f32): f32 {
  return f32x4.extract_lane(tanh4(f32x4.splat(x)), 0);
}

const ERF_SMALL: f32 = 0.5;
const TWO_OVER_ROOT_PI: f32 = <f32>1.1283791670955126;
const E11: f32 = <f32>(-1.0 / 1320.0);
const E9: f32 = <f32>(1.0 / 216.0);
const E7: f32 = <f32>(-1.0 / 42.0);
const E5: f32 = <f32>0.1;
const E3: f32 = <f32>(-1.0 / 3.0);
const ERF_P: f32 = <f32>0.3275911;
const A5: f32 = <f32>1.061405429;
const A4: f32 = <f32>-1.453152027;
const A3: f32 = <f32>1.421413741;
const A2: f32 = <f32>-0.284496736;
const A1: f32 = <f32>0.254829592;

/** erf32 of four lanes. */
// @ts-ignore: decorator
@inline
export function erf4(x: v128): v128 {
  const one = f32x4.splat(1);
  const size = f32x4.abs(x);
  const z = f32x4.mul(x, x);
  let p = f32x4.add(f32x4.mul(f32x4.splat(E11), z), f32x4.splat(E9));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(E7));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(E5));
  p = f32x4.add(f32x4.mul(p, z), f32x4.splat(E3));
  const series = f32x4.add(x, f32x4.mul(x, f32x4.mul(z, p)));
  const small = f32x4.mul(f32x4.splat(TWO_OVER_ROOT_PI), series);
  const t = f32x4.div(one, f32x4.add(one, f32x4.mul(f32x4.splat(ERF_P), size)));
  p = f32x4.add(f32x4.mul(f32x4.splat(A5), t), f32x4.splat(A4));
  p = f32x4.add(f32x4.mul(p, t), f32x4.splat(A3));
  p = f32x4.add(f32x4.mul(p, t), f32x4.splat(A2));
  p = f32x4.add(f32x4.mul(p, t), f32x4.splat(A1));
  const y = f32x4.sub(one, f32x4.mul(f32x4.mul(p, t), exp4(f32x4.neg(z))));
  const large = v128.or(y, v128.and(x, i32x4.splat(SIGN)));
  return v128.bitselect(small, large, f32x4.lt(size, f32x4.splat(ERF_SMALL)));
}

const CUBIC: f32 = <f32>0.044715;
const ROOT_TWO_OVER_PI: f32 = <f32>0.7978845608028654;
const ROOT_HALF: f32 = <f32>0.7071067811865476;

/** Activations by number: the order of ACTIVATION_KINDS in src/backends/wasm-elements.ts. */
const SIGMOID: i32 = 0;
const SILU: i32 = 1;
const GELU_TANH: i32 = 2;

// @ts-ignore: decorator
@inline
export function activate4(kind: i32, x: v128): v128 {
  const one = f32x4.splat(1);
  if (kind <= SILU) {
    const below = f32x4.add(one, exp4(f32x4.neg(x)));
    return f32x4.div(kind == SIGMOID ? one : x, below);
  }
  const half = f32x4.mul(f32x4.splat(0.5), x);
  if (kind == GELU_TANH) {
    const cube = f32x4.mul(f32x4.mul(x, x), x);
    const inner = f32x4.mul(
      f32x4.splat(ROOT_TWO_OVER_PI),
      f32x4.add(x, f32x4.mul(f32x4.splat(CUBIC), cube)),
    );
    return f32x4.mul(half, f32x4.add(one, tanh4(inner)));
  }
  return f32x4.mul(half, f32x4.add(one, erf4(f32x4.mul(x, f32x4.splat(ROOT_HALF)))));
}

// @ts-ignore: decorator
@inline
export function activate1(kind: i32, x: f32): f32 {
  return f32x4.extract_lane(activate4(kind, f32x4.splat(x)), 0);
}
