/** Q4_K: x ≈ (d·scale)·code - dmin·min, 4-bit codes, 6-bit scales and minima for every 32 elements. */

import { f32 } from "../numerics.js";
import type { BlockCodec } from "./codec.js";
import { D, DMIN, decodeSixBit, encodeSixBit, openSixBit } from "./k4.js";
import { packNibblePlanes, unpackNibblePlanes } from "./scales.js";
import type { AffineGrid } from "./search-affine.js";
import { encodeSuperBlocks, SUPER_BLOCK } from "./superblock.js";
import { TYPES } from "./table.js";

const { blockBytes } = TYPES.Q4K;
const QS = 16;
const GRID: AffineGrid = { N: 15, rmin: -1, rdelta: f32(0.1), nstep: 20, absolute: false };

export const q4_k: BlockCodec = {
  type: "Q4K",

  encodeRow: (algorithm, values, importance, out) =>
    encodeSuperBlocks(algorithm, values, importance, out, blockBytes, [D, DMIN], (lineage, x, w, block) =>
      packNibblePlanes(encodeSixBit(lineage, GRID, x, w, block), block, QS),
    ),

  decodeRow(bytes, out) {
    const codes = new Uint8Array(SUPER_BLOCK);
    for (let b = 0; b < bytes.length / blockBytes; b++) {
      unpackNibblePlanes(bytes, b * blockBytes + QS, codes);
      decodeSixBit(bytes, b * blockBytes, codes, out, b * SUPER_BLOCK);
    }
  },

  openRow: (weights) =>
    openSixBit(weights, blockBytes, (offset, codes) => unpackNibblePlanes(weights, offset + QS, codes)),
};
