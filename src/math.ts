/**
 * Elementary functions of our own, so that no runtime's math library decides a bit: they use only +, -, *, / and bit
 * patterns, which IEEE 754 fixes, and therefore give the same result in every engine.
 *
 * `exp32`, `tanh32` and `erf32` are binary32 throughout (each step rounded) because SIMD and WGSL twins repeat them lane by
 * lane; the others are binary64. Reductions and polynomials follow the public-domain methods in Cody & Waite, "Software Manual for the
 * Elementary Functions" (1980), and plain Taylor / atanh series; coefficients are the exact rationals.
 */

/** Own copy of numerics' f32: exp32 is the inner loop of attention, and this is resolved where it is used. */
const f32 = Math.fround;

/** Constants of exp32, exported for its twins. All are exactly representable in binary32. */
export const EXP32 = {
  // biome-ignore lint/suspicious/noApproximativeNumericConstant: a literal, like all bits of this file
  log2e: f32(1.4426950408889634),
  /** ln 2 split in two: `ln2High` has few enough bits that k·ln2High is exact for |k| ≤ 2^9. */
  ln2High: 0.693359375,
  ln2Low: f32(-0.00021219444005469057),
  /** 1/7!, 1/6!, … 1/2!, highest power first. */
  coefficients: [1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2].map(f32),
  /** Below this the result is 0 (no subnormal results), above `overflow` it is infinity. */
  underflow: f32(-87.33654),
  overflow: f32(88.72283),
  /** Adding and subtracting 1.5·2^23 rounds to the nearest integer, ties to even. */
  magic: 12582912,
} as const;

const [C7, C6, C5, C4, C3, C2] = EXP32.coefficients;
const { log2e, ln2High, ln2Low, underflow, overflow, magic } = EXP32;
const powers = new Float32Array(2);
const powerBits = new Int32Array(powers.buffer);

/** e^x in strict binary32, relative error below 2 ulp; results under 2^-126 are 0. */
export function exp32(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x > overflow) return Number.POSITIVE_INFINITY;
  if (x < underflow) return 0;
  const k = f32(f32(f32(x * log2e) + magic) - magic);
  const r = f32(f32(x - f32(k * ln2High)) - f32(k * ln2Low));
  let p = f32(f32(C7 * r) + C6);
  p = f32(f32(p * r) + C5);
  p = f32(f32(p * r) + C4);
  p = f32(f32(p * r) + C3);
  p = f32(f32(p * r) + C2);
  const y = f32(f32(f32(p * f32(r * r)) + r) + 1);
  // Two steps, because 2^128 has no bit pattern: y·2^k for k = 128 is y·2·2^127.
  const half = k >> 1;
  powerBits[0] = (half + 127) << 23;
  powerBits[1] = (k - half + 127) << 23;
  return f32(f32(y * powers[0]) * powers[1]);
}

/** Constants of tanh32: below `small` its Taylor series x + x·(x²·P(x²)), highest power first. */
export const TANH32 = { small: 0.25, coefficients: [62 / 2835, -17 / 315, 2 / 15, -1 / 3].map(f32) } as const;

const [T9, T7, T5, T3] = TANH32.coefficients;

/** tanh x in strict binary32, relative error below 4 ulp. */
export function tanh32(x: number): number {
  const size = Math.abs(x);
  if (size < TANH32.small) {
    const z = f32(x * x);
    let p = f32(f32(T9 * z) + T7);
    p = f32(f32(p * z) + T5);
    p = f32(f32(p * z) + T3);
    return f32(x + f32(x * f32(z * p)));
  }
  const t = exp32(-2 * size);
  const y = f32(f32(1 - t) / f32(1 + t));
  return x < 0 ? -y : y;
}

/**
 * Constants of erf32: below `small` the Taylor series 2/√π·(x + x·(x²·P(x²))), else formula 7.1.26 of Abramowitz & Stegun,
 * "Handbook of Mathematical Functions" (1964); both highest power first.
 */
export const ERF32 = {
  small: 0.5,
  series: [-1 / 1320, 1 / 216, -1 / 42, 1 / 10, -1 / 3].map(f32),
  twoOverRootPi: f32(1.1283791670955126),
  p: f32(0.3275911),
  tail: [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592].map(f32),
} as const;

const [E11, E9, E7, E5, E3] = ERF32.series;
const [A5, A4, A3, A2, A1] = ERF32.tail;

/** erf x in strict binary32, absolute error below 3e-7, relative below 4 ulp for |x| < 1/2. */
export function erf32(x: number): number {
  const size = Math.abs(x);
  const z = f32(x * x);
  if (size < ERF32.small) {
    let p = f32(f32(E11 * z) + E9);
    p = f32(f32(p * z) + E7);
    p = f32(f32(p * z) + E5);
    p = f32(f32(p * z) + E3);
    return f32(ERF32.twoOverRootPi * f32(x + f32(x * f32(z * p))));
  }
  const t = f32(1 / f32(1 + f32(ERF32.p * size)));
  let p = f32(f32(A5 * t) + A4);
  p = f32(f32(p * t) + A3);
  p = f32(f32(p * t) + A2);
  p = f32(f32(p * t) + A1);
  const y = f32(1 - f32(f32(p * t) * exp32(-z)));
  return x < 0 ? -y : y;
}

// biome-ignore lint/suspicious/noApproximativeNumericConstant: a literal, like all bits of this file
const LN2 = 0.6931471805599453;
const LN2_HIGH = 0.6931471803691238; // upper 33 bits, so that k·LN2_HIGH is exact
const LN2_LOW = 1.9082149292705877e-10;

/** e^x in binary64, within about 1 ulp. */
export function exp64(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x > 709.782712893384) return Number.POSITIVE_INFINITY;
  if (x < -745.2) return 0;
  const k = Math.floor(x / LN2 + 0.5);
  const r = x - k * LN2_HIGH - k * LN2_LOW;
  let sum = 0;
  for (let n = 17; n >= 1; n--) sum = ((sum + 1) * r) / n;
  return scaleByPowerOfTwo(1 + sum, k);
}

/** Natural logarithm of a positive finite binary64 number, within about 1 ulp; 0 gives -Infinity, negatives NaN. */
export function log64(x: number): number {
  if (!(x > 0)) return x === 0 ? Number.NEGATIVE_INFINITY : Number.NaN;
  if (x === Number.POSITIVE_INFINITY) return x;
  let exponent = 0;
  let m = x;
  while (m >= 2 ** 32) {
    m /= 2 ** 32;
    exponent += 32;
  }
  while (m < 2 ** -32) {
    m *= 2 ** 32;
    exponent -= 32;
  }
  while (m > Math.SQRT2) {
    m /= 2;
    exponent += 1;
  }
  while (m < Math.SQRT1_2) {
    m *= 2;
    exponent -= 1;
  }
  // ln m = 2·atanh(s), s = (m-1)/(m+1), |s| ≤ 0.172: 12 terms leave an error under 2^-60.
  const s = (m - 1) / (m + 1);
  const s2 = s * s;
  let tail = 0;
  for (let n = 25; n >= 3; n -= 2) tail = (tail + 1 / n) * s2;
  return exponent * LN2_HIGH + (2 * s + (2 * s * tail + exponent * LN2_LOW));
}

/** x^y for x > 0, in binary64. */
export function pow64(x: number, y: number): number {
  return exp64(y * log64(x));
}

const PI_OVER_2_HIGH = 1.5707963267341256; // upper 33 bits, so that k·PI_OVER_2_HIGH is exact for |k| < 2^20
const PI_OVER_2_MIDDLE = 6.077100506303966e-11;
const PI_OVER_2_LOW = 2.0222662487959506e-21;

/** Sine in binary64 for |x| < 1.6 million, absolute error under 1e-15. */
export function sin64(x: number): number {
  const k = Math.floor(x / (Math.PI / 2) + 0.5);
  return quadrant(x - k * PI_OVER_2_HIGH - k * PI_OVER_2_MIDDLE - k * PI_OVER_2_LOW, k);
}

/** Cosine in binary64 for |x| < 1.6 million, absolute error under 1e-15. */
export function cos64(x: number): number {
  const k = Math.floor(x / (Math.PI / 2) + 0.5);
  return quadrant(x - k * PI_OVER_2_HIGH - k * PI_OVER_2_MIDDLE - k * PI_OVER_2_LOW, k + 1);
}

/** sin(r + quarter·π/2) for |r| ≤ π/4, by Taylor series. */
function quadrant(r: number, quarter: number): number {
  const q = ((quarter % 4) + 4) % 4;
  const r2 = r * r;
  let sum = 0;
  const odd = q % 2 === 0;
  for (let n = odd ? 21 : 20; n >= (odd ? 3 : 2); n -= 2) sum = ((sum + 1) * -r2) / (n * (n - 1));
  const value = odd ? r * (1 + sum) : 1 + sum;
  return q < 2 ? value : -value;
}

function scaleByPowerOfTwo(x: number, k: number): number {
  let value = x;
  let rest = k;
  for (; rest > 1000; rest -= 1000) value *= 2 ** 1000;
  for (; rest < -1000; rest += 1000) value *= 2 ** -1000;
  return value * powerOfTwo(rest);
}

/** 2^k, |k| ≤ 1000, by multiplication: `**` with an integer exponent is not promised exact by the standard. */
function powerOfTwo(k: number): number {
  let result = 1;
  let base = k < 0 ? 0.5 : 2;
  for (let n = Math.abs(k); n > 0; n >>= 1) {
    if (n & 1) result *= base;
    base *= base;
  }
  return result;
}
