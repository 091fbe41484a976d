/**
 * Encoders of a backend on the rows of src/oracle/cases.ts: hard kinds, and values moved to where one code ends and the next
 * begins. Free of the test runner, so that browsers and other machines can run it.
 */

import type { Backend } from "../../src/backends/backend.js";
import { makeCase } from "../../src/oracle/cases.js";
import { makeSpec } from "../../src/oracle/spec.js";
import { type QuantizedTensor, type QuantizeOptions, TYPES } from "../../src/quants/index.js";
import { compareTensors } from "./compare-tensors.js";
import type { Encoder } from "./encoders.js";

export interface HardRows {
  readonly seed: number;
  /** Rows (tensors of one row, of HQQ and FP8) and their elements. */
  readonly rows: number;
  readonly columns: number;
}

export interface HardRowsResult {
  readonly blocks: number;
  readonly repaired: number;
  /** Absent when all bytes agree. */
  readonly difference?: string;
}

/** What the bytes should be: the reference's quantize, or a backend that was compared with it. */
export type Expected = (
  type: Encoder["type"],
  values: Float32Array,
  options: QuantizeOptions,
) => QuantizedTensor | Promise<QuantizedTensor>;

export async function compareHardRows(
  backend: Backend,
  expected: Expected,
  { type, algorithm, importance }: Encoder,
  { seed, rows, columns }: HardRows,
): Promise<HardRowsResult> {
  const { family, blockElements } = TYPES[type];
  const spec = makeSpec({ operation: "encode", type, algorithm, importance, seed, count: rows, columns });
  const cases = Array.from({ length: rows }, (_, i) => makeCase(spec, i));
  // Rows of block types are encoded together: one importance for all.
  const tensors = family === "block" ? [cases] : cases.map((one) => [one]);
  let blocks = 0;
  let repaired = 0;
  for (const group of tensors) {
    const values = new Float32Array(group.length * columns);
    for (const [i, { values: row }] of group.entries()) values.set(row!, i * columns);
    const shared = group[0].importance;
    const options = { shape: [group.length, columns], algorithm, ...(shared && { importance: shared }) };
    const actual = await backend.quantize(type, values, options);
    const difference = compareTensors(actual, await expected(type, values, options));
    blocks += values.length / blockElements;
    repaired += actual.repairedBlocks ?? 0;
    if (difference !== undefined) return { blocks, repaired, difference };
  }
  return { blocks, repaired };
}
