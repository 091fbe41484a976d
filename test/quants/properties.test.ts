/** What is true of every encoder on any rows: found by fast-check, seed printed on failure (ISQ_SEED repeats it). */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Algorithm,
  dequantize,
  type IsqType,
  quantize,
  TYPE_NAMES,
  TYPES,
} from "../../src/quants/index.js";
import { compareBytes, compareFloats } from "../suites/compare.js";
import {
  fillRow,
  importanceRecipe,
  makeImportance,
  type RowRecipe,
  randomFrom,
  rowRecipe,
  SEED,
  SLOW,
  tameRecipe,
} from "../suites/rows.js";

const RUNS = { seed: SEED, numRuns: SLOW ? 2000 : 40 };
const COLUMNS = 512;
const ROWS = 3;

const ENCODERS: [IsqType, Algorithm][] = TYPE_NAMES.flatMap((type) =>
  TYPES[type].algorithms.map((algorithm): [IsqType, Algorithm] => [type, algorithm]),
);
const BLOCK_ENCODERS = ENCODERS.filter(([type]) => TYPES[type].family === "block");
const GGML_TYPES = BLOCK_ENCODERS.filter(([, algorithm]) => algorithm === "ggml").map(([type]) => type);

/** Values of `count` recipes, 64 elements each. */
function valuesOf(recipes: readonly RowRecipe[]): Float32Array {
  const values = new Float32Array(recipes.length * 64);
  fillRow(recipes, values);
  return values;
}

const arrayOf = (recipe: fc.Arbitrary<RowRecipe>, elements: number): fc.Arbitrary<Float32Array> =>
  fc.array(recipe, { minLength: elements / 64, maxLength: elements / 64 }).map(valuesOf);

const anyRows = arrayOf(rowRecipe, ROWS * COLUMNS);
const tameRow = arrayOf(tameRecipe, COLUMNS);

/** No block of it comes near an end of binary16. */
const evenRecipe = fc.record({
  kind: fc.constantFrom(...(["gauss", "uniform", "moderateBits", "ties", "alternating", "grid"] as const)),
  exponent: fc.integer({ min: -1, max: 1 }),
  seed: fc.nat(),
});
const evenRow = arrayOf(evenRecipe, COLUMNS);

const scaled = (values: Float32Array, factor: number): Float32Array => values.map((v) => v * factor);

/** Data with the f16 and f32 fields cleared. */
function codesOf(type: IsqType, data: Uint8Array): Uint8Array {
  const { blockBytes, fields } = TYPES[type];
  const codes = data.slice();
  for (const { kind, offset, byteLength } of fields) {
    if (kind !== "f16" && kind !== "f32") continue;
    for (let at = offset; at < codes.length; at += blockBytes) codes.fill(0, at, at + byteLength);
  }
  return codes;
}

describe("always", () => {
  it.each(ENCODERS)(
    "%s %s: the same input gives the same bytes, and they the same values",
    (type, algorithm) => {
      const property = fc.property(anyRows, (values) => {
        const options = { shape: [ROWS, COLUMNS], algorithm };
        const [first, second] = [quantize(type, values, options), quantize(type, values, options)];
        expect(second).toEqual(first);
        expect(compareFloats(dequantize(second), dequantize(first))).toBeUndefined();
      });
      fc.assert(property, RUNS);
    },
  );

  it.each(BLOCK_ENCODERS)("%s %s: a tensor is its rows, one by one", (type, algorithm) => {
    const takesImportance = TYPES[type].importance.includes(algorithm);
    const property = fc.property(anyRows, importanceRecipe, (values, recipe) => {
      const importance = takesImportance ? { importance: makeImportance(recipe, COLUMNS) } : {};
      const whole = quantize(type, values, { shape: [ROWS, COLUMNS], algorithm, ...importance }).data;
      const rowBytes = whole.length / ROWS;
      for (let r = 0; r < ROWS; r++) {
        const row = values.subarray(r * COLUMNS, (r + 1) * COLUMNS);
        const alone = quantize(type, row, { shape: [COLUMNS], algorithm, ...importance }).data;
        expect(compareBytes(type, whole.subarray(r * rowBytes, (r + 1) * rowBytes), alone)).toBeUndefined();
      }
    });
    fc.assert(property, RUNS);
  });

  it.each(BLOCK_ENCODERS)("%s %s: without importance, a row is its blocks, one by one", (type, algorithm) => {
    const { blockElements, blockBytes } = TYPES[type];
    const property = fc.property(arrayOf(rowRecipe, COLUMNS), (values) => {
      const whole = quantize(type, values, { shape: [1, COLUMNS], algorithm }).data;
      const blocks = quantize(type, values, {
        shape: [COLUMNS / blockElements, blockElements],
        algorithm,
      }).data;
      expect(whole.length).toBe((COLUMNS / blockElements) * blockBytes);
      expect(compareBytes(type, whole, blocks)).toBeUndefined();
    });
    fc.assert(property, RUNS);
  });
});

describe("on rows of ordinary size", () => {
  it.each(GGML_TYPES)("%s: a power of two moves the scales, not the codes", (type) => {
    const property = fc.property(evenRow, fc.integer({ min: -2, max: 2 }), (values, k) => {
      const options = { shape: [COLUMNS] };
      const codes = codesOf(type, quantize(type, values, options).data);
      const moved = codesOf(type, quantize(type, scaled(values, 2 ** k), options).data);
      expect(compareBytes(type, moved, codes)).toBeUndefined();
    });
    fc.assert(property, RUNS);
  });

  it.each(GGML_TYPES.filter((type) => TYPES[type].importance.includes("ggml")))(
    "%s: importance matters only in proportion",
    (type) => {
      // Products of three sums must stay within binary32.
      const kinds = ["ones", "squares", "halfZero", "zeroRuns", "zeros", "equalSteps"];
      const recipe = importanceRecipe.filter(({ kind }) => kinds.includes(kind));
      const property = fc.property(evenRow, recipe, fc.integer({ min: -8, max: 8 }), (values, r, k) => {
        const importance = makeImportance(r, COLUMNS);
        const options = { shape: [COLUMNS] };
        const data = quantize(type, values, { ...options, importance }).data;
        const moved = quantize(type, values, { ...options, importance: scaled(importance, 2 ** k) }).data;
        expect(compareBytes(type, moved, data)).toBeUndefined();
      });
      fc.assert(property, RUNS);
    },
  );

  it.each(["Q4_0", "Q5_0", "Q8_0", "Q6K", "Q8K"] as const)("%s: negated weights decode negated", (type) => {
    const property = fc.property(tameRow, (values) => {
      const decode = (v: Float32Array) => dequantize(quantize(type, v, { shape: [COLUMNS] }));
      const [plain, negated] = [decode(values), decode(scaled(values, -1))];
      // x + 0 makes a negative zero positive: its sign may differ.
      expect(
        compareFloats(
          scaled(negated, -1).map((v) => v + 0),
          plain.map((v) => v + 0),
        ),
      ).toBeUndefined();
    });
    fc.assert(property, RUNS);
  });
});

/**
 * Largest |error| of an element of a block, where the block's range decides it: half a step, or a whole one at the end
 * where the codes are cut off, plus what rounding scale and minimum to f16 (2^-11 of them) adds.
 */
const ERROR_BOUNDS: Partial<Record<IsqType, (min: number, max: number) => number>> = {
  Q4_0: (min, max) => (peak(min, max) / 8) * (1 + 8 / 2048 + 1e-5),
  Q5_0: (min, max) => (peak(min, max) / 16) * (1 + 16 / 2048 + 1e-5),
  Q4_1: (min, max) => ((max - min) / 15) * (0.5 + 15 / 2048 + 1e-5) + Math.abs(min) * 0.0005,
  Q5_1: (min, max) => ((max - min) / 31) * (0.5 + 31 / 2048 + 1e-5) + Math.abs(min) * 0.0005,
  Q8_0: (min, max) => (peak(min, max) / 127) * (0.5 + 127 / 2048 + 1e-5),
  Q8_1: (min, max) => (peak(min, max) / 127) * (0.5 + 127 / 2048 + 1e-5),
  Q8K: (min, max) => (peak(min, max) / 127) * (0.5 + 1e-4),
};
const peak = (min: number, max: number): number => Math.max(Math.abs(min), Math.abs(max));
/** Half of the smallest subnormal f16, times the largest code: what a scale below f16's normal range may be off by. */
const SMALLEST_HALF = 2 ** -25;

describe("errors are bounded", () => {
  it.each(Object.keys(ERROR_BOUNDS) as IsqType[])("%s: by the block's range", (type) => {
    const { blockElements } = TYPES[type];
    const bound = ERROR_BOUNDS[type] as (min: number, max: number) => number;
    const property = fc.property(tameRow, (values) => {
      const decoded = dequantize(quantize(type, values, { shape: [COLUMNS] }));
      for (let i = 0; i < COLUMNS; i++) {
        const start = i - (i % blockElements);
        const block = values.subarray(start, start + blockElements);
        const limit = bound(Math.min(...block), Math.max(...block)) + 128 * SMALLEST_HALF;
        expect(Math.abs(decoded[i] - values[i]), `element ${i}`).toBeLessThanOrEqual(limit);
      }
    });
    fc.assert(property, RUNS);
  });

  it("FP8: by a sixteenth of the value, or half the smallest step", () => {
    const property = fc.property(tameRow, (values) => {
      const tensor = quantize("FP8", values, { shape: [COLUMNS] });
      const smallest = 2 ** -10 * (tensor.dequantizeScale as number);
      dequantize(tensor).forEach((v, i) => {
        const limit = Math.max(Math.abs(values[i]) / 16, smallest) * (1 + 1e-5);
        expect(Math.abs(v - values[i]), `element ${i}`).toBeLessThanOrEqual(limit);
      });
    });
    fc.assert(property, RUNS);
  });

  it("more bits mean less error on normal weights", () => {
    const random = randomFrom(5);
    const values = Float32Array.from({ length: 16 * COLUMNS }, () => random.gauss() * 0.02);
    const rmse = (type: IsqType, algorithm?: Algorithm): number => {
      const options = { shape: [16, COLUMNS], ...(algorithm && { algorithm }) };
      const decoded = dequantize(quantize(type, values, options));
      return Math.sqrt(decoded.reduce((sum, v, i) => sum + (v - values[i]) ** 2, 0) / values.length);
    };
    for (const algorithm of ["ggml", "mistralrs"] as const) {
      const ladder = (["Q2K", "Q3K", "Q4K", "Q5K", "Q6K", "Q8K"] as const).map((type) =>
        rmse(type, algorithm),
      );
      expect([...ladder].sort((a, b) => b - a)).toEqual(ladder);
    }
    const older = (["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"] as const).map((type) => rmse(type));
    expect([...older].sort((a, b) => b - a)).toEqual(older);
    expect(rmse("HQQ8")).toBeLessThan(rmse("HQQ4"));
  });
});
