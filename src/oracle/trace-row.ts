/** Rows under an arithmetic: all blocks of a row, or one of them with every search reported. */

import { f32 } from "../numerics.js";
import { sumOfSquares } from "../quants/search.js";
import { type Algorithm, type IsqType, TYPES } from "../quants/table.js";
import { type Arithmetic, STRICT } from "./arithmetic.js";
import type { Tracer } from "./trace.js";
import { encodeBlock } from "./trace-block.js";
import type { BlockInput } from "./trace-way.js";

/** One row of a block type. */
export interface RowInput {
  readonly type: IsqType;
  readonly algorithm: Algorithm;
  readonly values: Float32Array;
  readonly importance?: Float32Array | undefined;
}

/** What block `b` of a row is encoded from. */
export function blockInput({ type, algorithm, values, importance }: RowInput, b: number): BlockInput {
  const { blockElements } = TYPES[type];
  const [from, to] = [b * blockElements, (b + 1) * blockElements];
  return {
    type,
    algorithm: algorithm === "ggml" ? "ggml" : "mistralrs",
    x: values.subarray(from, to),
    importance: importance?.subarray(from, to),
    ...(importance && blockElements === 32 && { rowMeanSquare: f32(sumOfSquares(values) / values.length) }),
  };
}

/** The bytes of one block. */
export function encodeRowBlock(
  row: RowInput,
  b: number,
  arithmetic: Arithmetic = STRICT,
  trace?: Tracer,
): Uint8Array {
  return encodeBlock(blockInput(row, b), TYPES[row.type].blockBytes, arithmetic, trace);
}

/** The bytes of a row. */
export function encodeRow(row: RowInput, arithmetic: Arithmetic = STRICT): Uint8Array {
  const { blockElements, blockBytes } = TYPES[row.type];
  const out = new Uint8Array((row.values.length / blockElements) * blockBytes);
  for (let b = 0; b * blockBytes < out.length; b++)
    out.set(encodeRowBlock(row, b, arithmetic), b * blockBytes);
  return out;
}
