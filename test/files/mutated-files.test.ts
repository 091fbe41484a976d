/** Some of the mutated files that scripts/mutated-files.mjs reads by the million. */

import { expect, test } from "vitest";
import { FORMATS, judge, makeCase, seedsOf } from "./mutated-files.js";

const FILES = 300;

test.each(FORMATS)("%s: a value, or an error that names the file", async (format) => {
  const seeds = seedsOf(format);
  const results = new Set<string>();
  for (let index = 0; index < FILES; index++) {
    const { result, failure } = await judge(format, makeCase(format, seeds, index));
    expect(failure, `file ${index}`).toBeUndefined();
    results.add(result);
  }
  expect(results).toContain("value");
  expect(results.size).toBeGreaterThan(5);
  expect(makeCase(format, seeds, 7)).toEqual(makeCase(format, seeds, 7));
});
