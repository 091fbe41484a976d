/** Rows of activations in the forms that the integer products read; see assembly/wide.ts. */

import { type IsqType, TYPES } from "../quants/table.js";
import type { DenseType } from "./backend.js";
import type { Bank } from "./wasm-bank.js";

/** Types of one row at a time: a multiple of four rows have kernels of their own. */
const ROW_FORMS: Partial<Record<IsqType, { readonly widen: string; readonly bytesPerBlock: number }>> = {
  Q4K: { widen: "q8_k_widen_nibbles", bytesPerBlock: 544 },
  Q8_0: { widen: "q8_0_widen_pairs", bytesPerBlock: 272 },
};

/** What the activations of a type's products are quantized to; null: they stay floats. */
export function partnerOf(type: IsqType | DenseType): IsqType | null {
  return type === "F32" || type === "F16" || type === "BF16" ? null : TYPES[type].dotPartner;
}

/** Bytes that a row of activations takes at most: as its partner type, and widened. */
export function activationBytes(type: IsqType, width: number): { coded: number; wide: number } {
  const { blockElements, blockBytes } = TYPES[TYPES[type].dotPartner!];
  const blocks = width / blockElements;
  const fours = blocks * (blockElements === 256 ? 2304 / 4 : 288 / 4);
  return { coded: blocks * blockBytes, wide: Math.max(fours, rowFormBytes(type, width)) };
}

/** A row by itself. Blocks of 32 come four at a time, where the type has no form of its own. */
function rowFormBytes(type: IsqType, width: number): number {
  const partner = TYPES[TYPES[type].dotPartner!];
  const blocks = width / partner.blockElements;
  const own = ROW_FORMS[type];
  if (own) return blocks * own.bytesPerBlock;
  return partner.blockElements === 256 ? blocks * 544 : Math.ceil(blocks / 4) * 288;
}

/** Areas of {@link multiply}. */
export interface ProductAreas {
  /** Of the weights. */
  readonly weights: number;
  /** Rows of activations, quantized. */
  readonly coded: number;
  readonly wide: number;
  /** [rows × outputs]. */
  readonly out: number;
}

/** Products of block types: rows of activations four at a time, and what is left of them one by one. */
export function multiplyCoded(
  bank: Bank,
  type: IsqType,
  { weights, coded, wide, out }: ProductAreas,
  outputs: number,
  rows: number,
  width: number,
): void {
  const { stem } = TYPES[type];
  const partner = TYPES[TYPES[type].dotPartner!];
  if (type === "Q8K") {
    bank.call("q8_k_widen", coded, wide, rows, width);
    bank.call("q8_k_matmul", weights, wide, out, outputs, rows, width, outputs);
    return;
  }
  const fours = rows - (rows % 4);
  if (fours > 0) {
    bank.call(`${partner.stem}_widen_four`, coded, wide, fours, width);
    bank.call(`${stem}_matmul`, weights, wide, out, outputs, fours, width, outputs);
  }
  const widen = ROW_FORMS[type]?.widen ?? `${partner.stem}_widen`;
  const codedRow = activationBytes(type, width).coded;
  for (let row = fours; row < rows; row++) {
    bank.call(widen, coded + row * codedRow, wide, 1, width);
    bank.call(`${stem}_matvec`, weights, wide, out + 4 * row * outputs, outputs, width);
  }
}
