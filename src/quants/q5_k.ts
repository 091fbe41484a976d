/** Q5_K: as Q4_K with 5-bit codes, fifth bits apart. */

import { f32 } from "../numerics.js";
import type { BlockCodec } from "./codec.js";
import { D, DMIN, decodeSixBit, encodeSixBit, openSixBit } from "./k4.js";
import { packNibblePlanes, unpackNibblePlanes } from "./scales.js";
import type { AffineGrid } from "./search-affine.js";
import { encodeSuperBlocks, SUPER_BLOCK } from "./superblock.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q5K;
const QH = 16;
const QS = 48;
const GRID: AffineGrid = { N: 31, rmin: f32(-0.5), rdelta: f32(0.1), nstep: 15, absolute: false };

/** Bit i / 32 of byte i % 32 is bit 4 of element i. */
function packHighBits(codes: Uint8Array, block: Uint8Array): void {
  for (let i = 0; i < SUPER_BLOCK; i++) block[QH + (i & 31)] |= (codes[i] >> 4) << (i >> 5);
}

function unpackCodes(bytes: Uint8Array, offset: number, codes: Uint8Array): void {
  unpackNibblePlanes(bytes, offset + QS, codes);
  for (let i = 0; i < SUPER_BLOCK; i++) codes[i] |= ((bytes[offset + QH + (i & 31)] >> (i >> 5)) & 1) << 4;
}

export const q5_k: BlockCodec = {
  type: "Q5K",

  encodeRow: (algorithm, values, importance, out) =>
    encodeSuperBlocks(algorithm, values, importance, out, blockBytes, [D, DMIN], (lineage, x, w, block) => {
      const codes = encodeSixBit(lineage, GRID, x, w, block);
      packHighBits(codes, block);
      packNibblePlanes(codes, block, QS);
    }),

  decodeRow(bytes, out) {
    const codes = new Uint8Array(SUPER_BLOCK);
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      unpackCodes(bytes, b * blockBytes, codes);
      decodeSixBit(bytes, b * blockBytes, codes, out, b * SUPER_BLOCK);
    }
  },

  openRow: (weights) =>
    openSixBit(weights, blockBytes, (offset, codes) => unpackCodes(weights, offset, codes)),
};
