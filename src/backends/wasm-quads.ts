/** Rows in fours: how some types lie in memory so that products of them are faster. See assembly/quads.ts. */

import { type IsqType, TYPES } from "../quants/table.js";
import type { DenseType } from "./backend.js";
import type { Bank } from "./wasm-bank.js";

const TYPES_IN_FOURS: ReadonlySet<string> = new Set<IsqType>(["Q4K", "Q8_0"]);

/** Rows that there must be room for. */
export function roomOf(type: IsqType | DenseType, rows: number): number {
  return TYPES_IN_FOURS.has(type) ? Math.ceil(rows / 4) * 4 : rows;
}

/** Rows in one memory, with the room that {@link roomOf} says. */
interface RowsInMemory {
  readonly bank: Bank;
  readonly address: number;
  readonly rows: number;
}

/** Brings rows that are stored one by one into the form in which they stay. */
export function packRows(
  { bank, address, rows }: RowsInMemory,
  type: IsqType | DenseType,
  width: number,
  rowBytes: number,
): void {
  if (!TYPES_IN_FOURS.has(type)) return;
  const [spare] = bank.scratch(4 * rowBytes);
  bank.call(`${TYPES[type as IsqType].stem}_pack`, address, rows, width, spare);
}

/** Rows as they are stored, copied to `out`. */
export function copyRowsTo(
  out: Uint8Array,
  { bank, address, rows }: RowsInMemory,
  type: IsqType | DenseType,
  width: number,
  rowBytes: number,
): void {
  if (!TYPES_IN_FOURS.has(type)) {
    out.set(bank.bytes.subarray(address, address + rows * rowBytes));
    return;
  }
  const [stage] = bank.scratch(4 * rowBytes);
  for (let row = 0; row < rows; row += 4) {
    const count = Math.min(4, rows - row);
    bank.call(`${TYPES[type as IsqType].stem}_unpack`, address + row * rowBytes, stage, count, width);
    out.set(bank.bytes.subarray(stage, stage + count * rowBytes), row * rowBytes);
  }
}
