/** What the comparisons with the published library share: batches of rows, running until enough, counting. */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isUndefined } from "../../src/oracle/undefined.js";
import { type IsqType, quantize, TYPES } from "../../src/quants/index.js";
import { compareBytes, withoutNanSigns } from "../suites/compare.js";
import {
  fillRow,
  type ImportanceRecipe,
  makeImportance,
  type RowRecipe,
  rowRecipe,
  SEED,
  SLOW,
} from "../suites/rows.js";
import { type GgmlOracle, openOracle, oracleMissing } from "./ggml.js";

/** Blocks compared per type and setting, at least. */
const BLOCKS = SLOW ? 200_000 : 10_000;
const ROWS_PER_RUN = 8;

export const BLOCK_TYPES = Object.values(TYPES).filter((row) => row.family === "block");

/**
 * A suite that compares with the library, where the platform has it. `define` makes its tests with the oracle and a
 * counter of blocks; the counts and the seed are printed at the end.
 */
export function oracleSuite(what: string, define: (use: OracleUse) => void): void {
  const name = `the published llama.cpp library: ${what}`;
  if (oracleMissing !== undefined) {
    describe(name, () => void it.skip(`not compared: ${oracleMissing}`, () => {}));
    return;
  }
  describe(name, () => {
    const counts = new Map<IsqType, number>();
    let oracle: GgmlOracle;
    beforeAll(async () => {
      oracle = await openOracle();
    });
    afterAll(() => {
      const list = [...counts].map(([type, blocks]) => `${type} ${blocks}`).join(", ");
      console.log(`blocks ${what} as the published library (seed ${SEED}; ISQ_SEED repeats it): ${list}`);
    });
    define({
      oracle: () => oracle,
      untilEnough(type, run) {
        let blocks = 0;
        for (let round = 0; blocks < BLOCKS; round++) blocks += run(SEED + round);
        counts.set(type, blocks);
      },
    });
  });
}

export interface OracleUse {
  oracle(): GgmlOracle;
  /** Calls `run` with new seeds until the blocks it returns are enough. */
  untilEnough(type: IsqType, run: (seed: number) => number): void;
}

/** Rows of 1, 2 or 3 super-blocks, or of blocks of 32 as long as that, ROWS_PER_RUN to a run. */
export function batches(type: IsqType): fc.Arbitrary<RowRecipe[]> {
  const perRow = TYPES[type].blockElements === 32 ? [1, 3, 8, 20] : [1, 2, 3];
  return fc.constantFrom(...perRow).chain((blocks) => {
    const length = blocks * ROWS_PER_RUN;
    return fc.array(rowRecipe, { minLength: length, maxLength: length });
  });
}

/** Values of the recipes; blocks without a defined result become zero. Returns how many are left to compare. */
export function makeRows(type: IsqType, recipes: readonly RowRecipe[], importance: boolean) {
  const { blockElements } = TYPES[type];
  const values = new Float32Array(recipes.length * blockElements);
  fillRow(recipes, values);
  let defined = recipes.length;
  for (let b = 0; b < recipes.length; b++) {
    const block = values.subarray(b * blockElements, (b + 1) * blockElements);
    if (importance || !isUndefined(type, block)) continue;
    block.fill(0);
    defined--;
  }
  return { values, defined };
}

/** Encodes the rows with both and fails at the first difference. Returns the number of blocks compared. */
export function compareEncoders(
  oracle: GgmlOracle,
  type: IsqType,
  recipes: readonly RowRecipe[],
  importance?: ImportanceRecipe,
): number {
  const { values, defined } = makeRows(type, recipes, importance !== undefined);
  const columns = values.length / ROWS_PER_RUN;
  const weights = importance && makeImportance(importance, columns);
  const options = { shape: [ROWS_PER_RUN, columns], ...(weights && { importance: weights }) };
  const ours = withoutNanSigns(type, quantize(type, values, options).data);
  const theirs = withoutNanSigns(type, oracle.quantize(type, values, columns, weights));
  expect(compareBytes(type, ours, theirs)).toBeUndefined();
  return defined;
}
