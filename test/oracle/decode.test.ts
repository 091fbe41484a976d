/** The reference's decoders and dot products against the published llama.cpp library, on random blocks. */

import fc from "fast-check";
import { expect, it } from "vitest";
import { dequantize, dot, type IsqType, TYPES } from "../../src/quants/index.js";
import { compareFloats } from "../suites/compare.js";
import { randomFrom, rowRecipe } from "../suites/rows.js";
import { BLOCK_TYPES, makeRows, oracleSuite } from "./comparison.js";

/** ggml never decodes Q8_1, and multiplies neither Q8_1 nor Q8_K as weights. */
const DECODED = BLOCK_TYPES.map((row) => row.name).filter((type) => type !== "Q8_1");
const MULTIPLIED = DECODED.filter((type) => type !== "Q8K");

oracleSuite("decoded", ({ oracle, untilEnough }) => {
  it.each(DECODED)("%s", (type) => {
    const { blockBytes, blockElements } = TYPES[type];
    untilEnough(type, (seed) => {
      const data = randomBytes(1000 * blockBytes, seed);
      const ours = dequantize({ type, algorithm: "ggml", shape: [1000 * blockElements], data });
      expect(compareFloats(ours, oracle().dequantize(type, data))).toBeUndefined();
      return 1000;
    });
  });
});

oracleSuite("multiplied", ({ oracle, untilEnough }) => {
  it.each(MULTIPLIED)("%s", (type) => {
    const partner = TYPES[type].dotPartner as IsqType;
    const rows = fc.array(rowRecipe, { minLength: 4, maxLength: 4 });
    untilEnough(type, (seed) => {
      let blocks = 0;
      const property = fc.property(rows, fc.nat(), fc.boolean(), (recipes, bytesSeed, wild) => {
        const { values } = makeRows(partner, recipes, false);
        const activations = oracle().quantize(partner, values, values.length);
        const weights = weightBytes(type, recipes.length, bytesSeed, wild);
        const ours = Float32Array.of(dot(type, weights, activations));
        const theirs = Float32Array.of(oracle().dot(type, weights, activations));
        expect(compareFloats(ours, theirs, "dot")).toBeUndefined();
        blocks += recipes.length;
      });
      fc.assert(property, { seed, numRuns: 500 });
      return blocks;
    });
  });
});

function randomBytes(byteLength: number, seed: number): Uint8Array {
  const random = randomFrom(seed);
  return Uint8Array.from({ length: byteLength }, () => random.word() >>> 24);
}

/** Random codes; scales random too, or (not `wild`) of ordinary size. */
function weightBytes(type: IsqType, blocks: number, seed: number, wild: boolean): Uint8Array {
  const { blockBytes, fields } = TYPES[type];
  const bytes = randomBytes(blocks * blockBytes, seed);
  if (wild) return bytes;
  for (const { offset, kind } of fields) {
    if (kind !== "f16") continue;
    for (let at = offset; at < bytes.length; at += blockBytes) bytes[at + 1] = (bytes[at + 1] & 0x87) | 0x28;
  }
  return bytes;
}
