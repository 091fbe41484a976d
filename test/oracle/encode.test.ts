/** The reference's plain encoders against the published llama.cpp library, on rows that nobody chose. */

import fc from "fast-check";
import { it } from "vitest";
import { BLOCK_TYPES, batches, compareEncoders, oracleSuite } from "./comparison.js";

oracleSuite("encoded", ({ oracle, untilEnough }) => {
  it.each(BLOCK_TYPES.map((row) => row.name))("%s", (type) => {
    untilEnough(type, (seed) => {
      let blocks = 0;
      const property = fc.property(batches(type), (recipes) => {
        blocks += compareEncoders(oracle(), type, recipes);
      });
      fc.assert(property, { seed, numRuns: 100 });
      return blocks;
    });
  });
});
