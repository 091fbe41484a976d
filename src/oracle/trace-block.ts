/** One block of a block type under any arithmetic, with every search reported. */

import { readHalf } from "../numerics.js";
import { GGML, type Lineage, MISTRALRS } from "../quants/search.js";
import type { IsqType } from "../quants/table.js";
import { type Arithmetic, STRICT } from "./arithmetic.js";
import type { Tracer } from "./trace.js";
import { encode32 } from "./trace-block32.js";
import { encode256 } from "./trace-superblock.js";
import type { BlockInput, Way } from "./trace-way.js";

/** The block's bytes under an arithmetic. `trace` hears every search. */
export function encodeBlock(
  input: BlockInput,
  blockBytes: number,
  arithmetic: Arithmetic = STRICT,
  trace?: Tracer,
): Uint8Array {
  const own = input.algorithm === "ggml" ? GGML : MISTRALRS;
  const { round } = arithmetic;
  const lineage: Lineage = round ? { ...own, round, toByte: round, toFinalByte: round } : own;
  const way: Way = { lineage, weightFirst: own === GGML, a: arithmetic, trace };
  const block = new Uint8Array(blockBytes);
  if (input.x.length === 32) encode32(way, input, block);
  else encode256(way, input, block);
  const scaleIsNan = (at: number) => Number.isNaN(readHalf(block, at));
  const offsets = SCALE_OFFSETS[input.type];
  if (own === MISTRALRS && input.importance && offsets?.some(scaleIsNan)) {
    return encodeBlock({ ...input, importance: undefined }, blockBytes, arithmetic, trace);
  }
  return block;
}

const SCALE_OFFSETS: Partial<Record<IsqType, readonly number[]>> = {
  Q2K: [80, 82],
  Q3K: [108],
  Q4K: [0, 2],
  Q5K: [0, 2],
  Q6K: [208],
};
