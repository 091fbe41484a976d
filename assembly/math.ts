// pow64 of src/math.ts, step by step in binary64, so that no math library decides a bit.

const LN2: f64 = 0.6931471805599453;
const LN2_HIGH: f64 = 0.6931471803691238;
const LN2_LOW: f64 = 1.9082149292705877e-10;

function powerOfTwo(k: i32): f64 {
  let result: f64 = 1;
  let base: f64 = k < 0 ? 0.5 : 2;
  for (let n = k < 0 ? -k : k; n > 0; n >>= 1) {
    if (n & 1) result *= base;
    base *= base;
  }
  return result;
}

/** e^x for |x| under 700. */
function exp64(x: f64): f64 {
  const k = floor<f64>(x / LN2 + 0.5);
  const r = x - k * LN2_HIGH - k * LN2_LOW;
  let sum: f64 = 0;
  for (let n = 17; n >= 1; n--) sum = ((sum + 1) * r) / <f64>n;
  return (1 + sum) * powerOfTwo(<i32>k);
}

/** Natural logarithm of a positive finite number. */
function log64(x: f64): f64 {
  let exponent: f64 = 0;
  let m = x;
  while (m >= 4294967296.0) {
    m /= 4294967296.0;
    exponent += 32;
  }
  while (m < 2.3283064365386963e-10) {
    m *= 4294967296.0;
    exponent -= 32;
  }
  while (m > 1.4142135623730951) {
    m /= 2;
    exponent += 1;
  }
  while (m < 0.7071067811865476) {
    m *= 2;
    exponent -= 1;
  }
  const s = (m - 1) / (m + 1);
  const s2 = s * s;
  let tail: f64 = 0;
  for (let n = 25; n >= 3; n -= 2) tail = (tail + 1 / <f64>n) * s2;
  return exponent * LN2_HIGH + (2 * s + (2 * s * tail + exponent * LN2_LOW));
}

/** x^y for a positive finite x and |y·ln x| under 700. */
export function pow64(x: f64, y: f64): f64 {
  return exp64(y * log64(x));
}
