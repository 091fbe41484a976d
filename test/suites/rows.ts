/**
 * The recipes of src/oracle/rows.ts as fast-check sees them: it generates, shrinks and prints recipes, not values.
 */

import fc from "fast-check";
import {
  IMPORTANCE_KIND_NAMES,
  type ImportanceRecipe,
  ROW_KINDS,
  type RowRecipe,
} from "../../src/oracle/rows.js";

export { type Random, randomFrom } from "../../src/oracle/random.js";
export { fillRow, type ImportanceRecipe, makeImportance, type RowRecipe } from "../../src/oracle/rows.js";

const exponent = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: -10, max: 3 }) },
  { weight: 2, arbitrary: fc.integer({ min: -45, max: 40 }) },
  { weight: 1, arbitrary: fc.integer({ min: -149, max: 126 }) },
);

const kind = fc.constantFrom(...ROW_KINDS);

/** Recipes of one block each. */
export const rowRecipe: fc.Arbitrary<RowRecipe> = fc.record({ kind, exponent, seed: fc.nat() });

/** Recipes of rows without a magnitude at the ends of binary32. */
export const tameRecipe: fc.Arbitrary<RowRecipe> = fc.record({
  kind: fc.constantFrom(
    ...(["gauss", "uniform", "peaked", "heavy", "ties", "sparse", "outlier", "alternating", "grid"] as const),
  ),
  exponent: fc.integer({ min: -8, max: 4 }),
  seed: fc.nat(),
});

export const importanceRecipe: fc.Arbitrary<ImportanceRecipe> = fc.record({
  kind: fc.constantFrom(...IMPORTANCE_KIND_NAMES),
  seed: fc.nat(),
});

export const SLOW = process.env["ISQ_SLOW"] === "1";
/**
 * The seed of a run of fast-check, printed by the suites. The normal run is the same every time; the slow suites draw
 * new rows from the clock. ISQ_SEED sets it in both.
 */
export const SEED = Number(process.env["ISQ_SEED"] ?? (SLOW ? Date.now() % 2 ** 31 : 20261124));
