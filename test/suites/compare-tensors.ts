/** Comparing whole quantized tensors, and generating the values they are made from. */

import fc from "fast-check";
import { type IsqType, type QuantizedTensor, TYPES } from "../../src/quants/index.js";
import { compareBytes, compareFloats, withoutNanSigns } from "./compare.js";
import { type RowRecipe, rowRecipe } from "./rows.js";

/** Rows × blocks of any recipes, one to a block. Values are made when a property runs, so that failures print recipes. */
export function tensorRecipes(type: IsqType): fc.Arbitrary<{ recipes: RowRecipe[]; shape: number[] }> {
  const elements = Math.max(TYPES[type].blockElements, 32);
  return fc
    .record({ rows: fc.integer({ min: 1, max: 4 }), blocks: fc.integer({ min: 1, max: 9 }) })
    .chain(({ rows, blocks }) =>
      fc
        .array(rowRecipe, { minLength: rows * blocks, maxLength: rows * blocks })
        .map((recipes) => ({ recipes, shape: [rows, blocks * elements] })),
    );
}

/** Undefined when all parts are equal, else the first difference. */
export function compareTensors(actual: QuantizedTensor, expected: QuantizedTensor): string | undefined {
  const { type } = expected;
  const scalars = ({ quantizeScale = 0, dequantizeScale = 0, reencodedBlocks = 0 }: QuantizedTensor) =>
    Float32Array.of(quantizeScale, dequantizeScale, reencodedBlocks);
  return (
    compareBytes(type, withoutNanSigns(type, actual.data), withoutNanSigns(type, expected.data)) ??
    compareFloats(actual.scales ?? new Float32Array(0), expected.scales ?? new Float32Array(0), "scales") ??
    compareFloats(actual.zeros ?? new Float32Array(0), expected.zeros ?? new Float32Array(0), "zeros") ??
    compareFloats(scalars(actual), scalars(expected), "scalars")
  );
}
