/** Products of placed weights with rows of activations. */

import { type IsqType, TYPES } from "../quants/table.js";
import { activationBytes, formOf, multiplyCoded, partnerOf } from "./wasm-activations.js";
import type { Bank } from "./wasm-bank.js";
import type { Piece, PlacedRows } from "./wasm-linear.js";

/** Rows of activations, and where they come from. */
export interface ActivationRows {
  readonly count: number;
  /** The address of rows in a bank: where they are, or that of a copy at `stage`. */
  bring(row: number, count: number, bank: Bank, stage: number): number;
  /** The same in calls that follow each other directly: the same activations, which are then quantized once. */
  readonly key?: unknown;
}

/** Where results go: those of rows of activations from `row` on, and of rows of the weight from `first` on. */
export interface ProductRows {
  /** Where they are to be in this bank, and the floats from row to row; null: `store` takes them. */
  placeOf?(
    row: number,
    first: number,
    bank: Bank,
  ): { readonly address: number; readonly stride: number } | null;
  store(row: number, first: number, values: Float32Array): void;
}

/** What is in a bank's scratch: activations of some rows as products read them. */
export interface PreparedRows {
  readonly key: unknown;
  readonly row: number;
  readonly count: number;
  readonly width: number;
  readonly address: number;
  readonly form: string | null;
}

/** Bytes of activations and results that are in a bank at a time. */
const STAGE_BYTES = 4 * 2 ** 20;

export function multiplyRows(placed: PlacedRows, x: ActivationRows, to: ProductRows): void {
  const { width, type, pieces } = placed;
  const bytes = partnerOf(type) === null ? { coded: 0, wide: 0 } : activationBytes(type as IsqType, width);
  const key = x.key ?? {}; // pieces of one weight have the same activations in any case
  for (const piece of pieces) {
    const each = 4 * width + bytes.coded + bytes.wide + 4 * piece.rows;
    const step = 4 * Math.max(1, Math.floor(STAGE_BYTES / (4 * each)));
    const { bank, firstRow, rows } = piece;
    for (let row = 0; row < x.count; row += step) {
      const count = Math.min(step, x.count - row);
      const before = bank.prepared;
      const sizes = [4 * width, bytes.coded, bytes.wide, 4 * rows].map((size) => size * count);
      const [stage, coded, wide, staged] = bank.scratch(...sizes);
      const place = to.placeOf?.(row, firstRow, bank);
      const { address: out, stride } = place ?? { address: staged, stride: rows };
      const partner = partnerOf(type);
      if (partner === null) {
        multiplyFloats(placed, piece, x.bring(row, count, bank, stage), out, count, stride);
      } else {
        const prepared = { key, row, count, width, address: wide, form: formOf(type as IsqType, count) };
        const isWide = before !== null && isSame(before, prepared);
        if (!isWide) {
          const from = x.bring(row, count, bank, stage);
          bank.call(`${TYPES[partner].stem}_quantize_ggml`, from, 0, coded, count, width);
        }
        const areas = { weights: piece.address, coded, wide, out, stride };
        multiplyCoded(bank, type as IsqType, areas, rows, count, width, isWide);
        bank.prepared = prepared;
      }
      if (place) continue;
      for (let r = 0; r < count; r++) {
        const start = staged / 4 + r * rows;
        to.store(row + r, firstRow, bank.floats.subarray(start, start + rows));
      }
    }
  }
}

function isSame(a: PreparedRows, b: PreparedRows): boolean {
  return (
    a.form !== null &&
    a.form === b.form &&
    a.key === b.key &&
    a.row === b.row &&
    a.count === b.count &&
    a.width === b.width &&
    a.address === b.address
  );
}

/** Products of types that are decoded to floats. */
function multiplyFloats(
  placed: PlacedRows,
  { bank, address, rows: outputs, ...piece }: Piece,
  x: number,
  out: number,
  rows: number,
  stride: number,
): void {
  const { type, width, algorithm } = placed;
  const rest = [x, out, outputs, rows, width, stride];
  if (type === "F32" || type === "F16" || type === "BF16") {
    bank.call(`${type.toLowerCase()}_matmul`, address, ...rest);
    return;
  }
  const { family, stem } = TYPES[type];
  if (family === "tensor") bank.call("fp8_matmul", address, placed.dequantizeScale!, ...rest);
  else {
    const { scales, zeros, groups, firstElement } = piece;
    const name = `${stem}_matmul_${algorithm}`;
    bank.call(name, address, scales!, zeros!, groups!, firstElement!, ...rest);
  }
}
