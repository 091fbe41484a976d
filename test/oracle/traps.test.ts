/** The blocks of src/vectors/traps.ts are what the published llama.cpp library makes of their values. */

import { expect, it } from "vitest";
import { loadTraps } from "../../src/vectors/traps.js";
import { compareBytes } from "../suites/compare.js";
import { openOracle, oracleMissing } from "./ggml.js";

it.skipIf(oracleMissing !== undefined)("traps hold the published library's bytes", async () => {
  const oracle = await openOracle();
  for (const { type, values, data } of loadTraps()) {
    expect(compareBytes(type, oracle.quantize(type, values, values.length), data)).toBeUndefined();
  }
});
