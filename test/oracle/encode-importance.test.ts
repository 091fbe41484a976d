/** The reference's encoders with importance against the published llama.cpp library. */

import fc from "fast-check";
import { it } from "vitest";
import { importanceRecipe } from "../suites/rows.js";
import { BLOCK_TYPES, batches, compareEncoders, oracleSuite } from "./comparison.js";

const WITH_IMPORTANCE = BLOCK_TYPES.filter((row) => row.importance.includes("ggml"));

oracleSuite("encoded with importance", ({ oracle, untilEnough }) => {
  it.each(WITH_IMPORTANCE.map((row) => row.name))("%s", (type) => {
    untilEnough(type, (seed) => {
      let blocks = 0;
      const property = fc.property(batches(type), importanceRecipe, (recipes, importance) => {
        blocks += compareEncoders(oracle(), type, recipes, importance);
      });
      fc.assert(property, { seed, numRuns: 100 });
      return blocks;
    });
  });
});
