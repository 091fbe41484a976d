import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cos64, EXP32, erf32, exp32, exp64, log64, pow64, sin64, tanh32 } from "../src/math.js";

/** Distance in units of the last place of `expected`, binary64. */
function ulps64(actual: number, expected: number): number {
  if (Object.is(actual, expected) || actual === expected) return 0;
  const exponent = Math.max(-1022, Math.floor(Math.log2(Math.abs(expected))));
  return Math.abs(actual - expected) / 2 ** (exponent - 52);
}

const RUNS = { numRuns: 20_000 };
const between = (min: number, max: number) => fc.double({ min, max, noNaN: true });

describe("exp32", () => {
  test("stays within 2 ulp of the exact value over its whole range", () => {
    let worst = 0;
    for (let i = 0; i <= 400_000; i++) {
      const x = Math.fround(-87.3 + (i * 176) / 400_000);
      const exact = Math.exp(x);
      const ulp = 2 ** (Math.floor(Math.log2(exact)) - 23);
      worst = Math.max(worst, Math.abs(exp32(x) - exact) / ulp);
    }
    expect(worst).toBeLessThan(2);
  });

  test("returns binary32 values, and the limits outside of its range", () => {
    for (const x of [-87, -1.5, -1e-8, 0, 1e-8, 1, 88]) expect(Math.fround(exp32(x))).toBe(exp32(x));
    expect(exp32(0)).toBe(1);
    expect(exp32(Number.NEGATIVE_INFINITY)).toBe(0);
    expect(exp32(Math.fround(-87.4))).toBe(0);
    expect(exp32(EXP32.underflow)).toBeGreaterThan(0);
    expect(exp32(EXP32.overflow)).toBeLessThan(Number.POSITIVE_INFINITY);
    expect(exp32(89)).toBe(Number.POSITIVE_INFINITY);
    expect(exp32(Number.POSITIVE_INFINITY)).toBe(Number.POSITIVE_INFINITY);
    expect(exp32(Number.NaN)).toBeNaN();
  });
});

describe("tanh32", () => {
  test("stays within 4 ulp, and is odd", () => {
    let worst = 0;
    for (let i = 1; i <= 200_000; i++) {
      const x = Math.fround(1e-6 * 1.00009 ** i);
      const exact = Math.tanh(x);
      const ulp = 2 ** (Math.floor(Math.log2(exact)) - 23);
      worst = Math.max(worst, Math.abs(tanh32(x) - exact) / ulp);
      if (tanh32(-x) !== -tanh32(x)) throw new Error(`not odd at ${x}`);
    }
    expect(worst).toBeLessThan(4);
  });

  test("ends at ±1, and knows 0 and NaN", () => {
    expect([0, 20, -20, 1e30, Number.NEGATIVE_INFINITY].map(tanh32)).toEqual([0, 1, -1, 1, -1]);
    expect(tanh32(Number.NaN)).toBeNaN();
  });
});

/** erf by its series, which converges everywhere; 120 terms leave an error below 1e-9 up to x = 5. */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

describe("erf32", () => {
  test("stays within 3e-7, within 4 ulp near 0, and is odd", () => {
    for (let x = -4; x <= 4; x += 1 / 512) {
      expect(Math.abs(erf32(x) - erf(x))).toBeLessThan(3e-7);
      expect(erf32(-x) === -erf32(x) || x === 0).toBe(true);
    }
    for (let x = 2 ** -20; x < 0.5; x *= 1.01) {
      const [own, exact] = [erf32(Math.fround(x)), erf(Math.fround(x))];
      expect(Math.abs(own - exact)).toBeLessThan(4 * 2 ** (Math.floor(Math.log2(exact)) - 23));
    }
  });

  test("ends at ±1, and knows 0 and NaN", () => {
    expect([0, 10, -10, Number.POSITIVE_INFINITY].map(erf32)).toEqual([0, 1, -1, 1]);
    expect(erf32(Number.NaN)).toBeNaN();
  });
});

describe("binary64 functions agree with the runtime's", () => {
  test("exp64 within 2 ulp", () => {
    fc.assert(
      fc.property(between(-700, 700), (x) => ulps64(exp64(x), Math.exp(x)) <= 2),
      RUNS,
    );
    expect(exp64(0)).toBe(1);
    expect(exp64(710)).toBe(Number.POSITIVE_INFINITY);
    expect(exp64(-746)).toBe(0);
    expect(exp64(Number.NaN)).toBeNaN();
  });

  test("log64 within 2 ulp, and within 2^-52 absolute where the logarithm vanishes", () => {
    const check = (x: number) => {
      const expected = Math.log(x);
      return ulps64(log64(x), expected) <= 2 || Math.abs(log64(x) - expected) <= 2 ** -52;
    };
    fc.assert(fc.property(between(Number.MIN_VALUE, Number.MAX_VALUE), check), RUNS);
    fc.assert(fc.property(between(0.5, 2), check), RUNS);
    expect(log64(1)).toBe(0);
    expect(log64(0)).toBe(Number.NEGATIVE_INFINITY);
    expect(log64(-1)).toBeNaN();
    expect(log64(Number.POSITIVE_INFINITY)).toBe(Number.POSITIVE_INFINITY);
  });

  test("pow64 to 1e-13 over the range that rope uses", () => {
    const relative = (x: number, y: number) => Math.abs(pow64(x, y) / x ** y - 1) < 1e-13;
    fc.assert(fc.property(between(1, 1e8), between(-1, 1), relative), RUNS);
  });

  test("sin64 and cos64 to 1e-15 absolute up to a million", () => {
    const close = (x: number) =>
      Math.abs(sin64(x) - Math.sin(x)) <= 1e-15 && Math.abs(cos64(x) - Math.cos(x)) <= 1e-15;
    fc.assert(fc.property(between(-1e6, 1e6), close), RUNS);
    fc.assert(fc.property(between(-8, 8), close), RUNS);
    for (let k = 1; k < 1000; k++) expect(close((k * Math.PI) / 2)).toBe(true);
    expect(sin64(0)).toBe(0);
    expect(cos64(0)).toBe(1);
  });
});
