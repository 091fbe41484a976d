/** The reference's encoders with importance against the published llama.cpp library. */

import fc from "fast-check";
import { it } from "vitest";
import { type ImportanceRecipe, importanceRecipe, type RowRecipe } from "../suites/rows.js";
import { BLOCK_TYPES, batches, compareEncoders, oracleSuite } from "./comparison.js";

const WITH_IMPORTANCE = BLOCK_TYPES.filter((row) => row.importance.includes("ggml"));

/** Scale codes below 0 wrap around: Q5_K clamps them, Q4_K does not. */
const WRAPPED: RowRecipe[] = Array.from({ length: 24 }, (_, i) =>
  i === 22 ? { kind: "negative", exponent: -31, seed: 2147483631 } : { kind: "gauss", exponent: 0, seed: i },
);

oracleSuite("encoded with importance", ({ oracle, untilEnough }) => {
  it.each(WITH_IMPORTANCE.map((row) => row.name))("%s", (type) => {
    untilEnough(type, (seed) => {
      let blocks = 0;
      const property = fc.property(batches(type), importanceRecipe, (recipes, importance) => {
        blocks += compareEncoders(oracle(), type, recipes, importance);
      });
      const examples: [RowRecipe[], ImportanceRecipe][] = [[WRAPPED, { kind: "anyExponent", seed: 3 }]];
      fc.assert(property, { seed, numRuns: 100, examples });
      return blocks;
    });
  });
});
