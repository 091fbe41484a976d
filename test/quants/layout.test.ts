/** The place of every bit of every code, one at a time. */

import { describe, expect, it } from "vitest";
import { dequantize, type IsqType, TYPES } from "../../src/quants/index.js";
import * as pack from "../../src/quants/scales.js";
import { compareFloats } from "../suites/compare.js";

/** Where bit `bit` of the code of element i is stored: byte of the block and bit of the byte. */
const CODE_BITS: Partial<Record<IsqType, (i: number, bit: number) => [number, number]>> = {
  Q4_0: (i, bit) => [2 + (i % 16), bit + (i < 16 ? 0 : 4)],
  Q4_1: (i, bit) => [4 + (i % 16), bit + (i < 16 ? 0 : 4)],
  Q5_0: (i, bit) => (bit === 4 ? [2 + (i >> 3), i % 8] : [6 + (i % 16), bit + (i < 16 ? 0 : 4)]),
  Q5_1: (i, bit) => (bit === 4 ? [4 + (i >> 3), i % 8] : [8 + (i % 16), bit + (i < 16 ? 0 : 4)]),
  Q2K: (i, bit) => [16 + 32 * (i >> 7) + (i % 32), bit + 2 * ((i >> 5) % 4)],
  Q3K: (i, bit) => (bit === 2 ? [i % 32, i >> 5] : [32 + 32 * (i >> 7) + (i % 32), bit + 2 * ((i >> 5) % 4)]),
  Q4K: (i, bit) => [16 + 32 * (i >> 6) + (i % 32), bit + (i % 64 < 32 ? 0 : 4)],
  Q5K: (i, bit) =>
    bit === 4 ? [16 + (i % 32), i >> 5] : [48 + 32 * (i >> 6) + (i % 32), bit + (i % 64 < 32 ? 0 : 4)],
  Q6K: (i, bit) => {
    const [half, quarter, l] = [i >> 7, (i >> 5) % 4, i % 32];
    return bit >= 4
      ? [128 + 32 * half + l, bit - 4 + 2 * quarter]
      : [64 * half + 32 * (quarter % 2) + l, bit + (quarter < 2 ? 0 : 4)];
  },
};

const CODE_WIDTH: Partial<Record<IsqType, number>> = {
  Q4_0: 4,
  Q4_1: 4,
  Q5_0: 5,
  Q5_1: 5,
  Q2K: 2,
  Q3K: 3,
  Q4K: 4,
  Q5K: 5,
  Q6K: 6,
};

/** A block with d = 1, every sub-block scale 1, every minimum 0 and every code 0. */
function unitBlock(type: IsqType): Uint8Array {
  const { blockBytes, fields } = TYPES[type];
  const block = new Uint8Array(blockBytes);
  const at = (name: string): number => fields.find((field) => field.name === name)?.offset as number;
  block[at("d") + 1] = 0x3c;
  if (type === "Q2K") block.fill(1, at("scales"), at("scales") + 16);
  if (type === "Q3K") pack.packSixBitScales(new Uint8Array(16).fill(33), block, at("scales"));
  if (type === "Q4K" || type === "Q5K") {
    pack.packSixBitPairs(new Uint8Array(8).fill(1), new Uint8Array(8), block, at("scales"));
  }
  if (type === "Q6K") block.fill(1, at("scales"), at("scales") + 16);
  return block;
}

describe("every bit of every code", () => {
  it.each(Object.keys(CODE_BITS) as IsqType[])("%s: lies where the layout says", (type) => {
    const place = CODE_BITS[type] as (i: number, bit: number) => [number, number];
    const { blockElements } = TYPES[type];
    const decode = (data: Uint8Array) =>
      dequantize({ type, algorithm: "ggml", shape: [blockElements], data });
    const zero = decode(unitBlock(type));
    for (let i = 0; i < blockElements; i++) {
      for (let bit = 0; bit < (CODE_WIDTH[type] as number); bit++) {
        const block = unitBlock(type);
        const [byte, shift] = place(i, bit);
        block[byte] |= 1 << shift;
        const expected = zero.slice();
        expected[i] += 2 ** bit;
        expect(compareFloats(decode(block), expected), `element ${i} bit ${bit}`).toBeUndefined();
      }
    }
  });
});
