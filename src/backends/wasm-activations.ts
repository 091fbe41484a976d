/** Rows of activations in the forms that the integer products read; see assembly/wide.ts. */

import { type IsqType, TYPES } from "../quants/table.js";
import type { DenseType } from "./backend.js";
import type { Bank } from "./wasm-bank.js";

/** A kernel that brings quantized rows into another form, and how much that takes. */
interface Form {
  readonly widen: string;
  /** Blocks that are together, and their bytes for one row. */
  readonly blocks: number;
  readonly bytes: number;
}

/** Single rows of types whose weights are in fours (wasm-quads.ts). */
const OWN_FORMS: Partial<Record<IsqType, Form>> = {
  Q4K: { widen: "q8_k_widen_nibbles", blocks: 1, bytes: 544 },
  Q8_0: { widen: "q8_0_widen_pairs", blocks: 1, bytes: 272 },
};

/** By what activations are quantized to. */
const ROW_FORMS: Partial<Record<IsqType, Form>> = {
  Q8K: { widen: "q8_k_widen", blocks: 1, bytes: 544 },
  Q8_0: { widen: "q8_0_widen", blocks: 4, bytes: 288 },
  Q8_1: { widen: "q8_1_widen", blocks: 4, bytes: 288 },
};

/** Of four rows together. */
const FOUR_FORMS: Partial<Record<IsqType, Form>> = {
  Q8K: { widen: "q8_k_widen_four", blocks: 1, bytes: 2304 / 4 },
  Q8_0: { widen: "q8_0_widen_four", blocks: 1, bytes: 288 / 4 },
  Q8_1: { widen: "q8_1_widen_four", blocks: 1, bytes: 288 / 4 },
};

/** What the activations of a type's products are quantized to; null: they stay floats. */
export function partnerOf(type: IsqType | DenseType): IsqType | null {
  return type === "F32" || type === "F16" || type === "BF16" ? null : TYPES[type].dotPartner;
}

const rowForm = (type: IsqType): Form => OWN_FORMS[type] ?? ROW_FORMS[TYPES[type].dotPartner!]!;

/** Q8_K as a weight has one kernel for any number of rows. */
const fourForm = (type: IsqType): Form | undefined =>
  type === "Q8K" ? undefined : FOUR_FORMS[TYPES[type].dotPartner!];

/** The form that all of `rows` rows have at the same time, or null where some of them have another. */
export function formOf(type: IsqType, rows: number): string | null {
  const four = fourForm(type);
  if (rows === 1 || !four) return rowForm(type).widen;
  return rows % 4 === 0 ? four.widen : null;
}

/** Bytes that a row of activations takes at most: as its partner type, and widened. */
export function activationBytes(type: IsqType, width: number): { coded: number; wide: number } {
  const { blockElements, blockBytes } = TYPES[TYPES[type].dotPartner!];
  const blocks = width / blockElements;
  const sizeOf = (form: Form | undefined) => (form ? Math.ceil(blocks / form.blocks) * form.bytes : 0);
  return { coded: blocks * blockBytes, wide: Math.max(sizeOf(rowForm(type)), sizeOf(fourForm(type))) };
}

/** Addresses of a product. */
export interface ProductAreas {
  readonly weights: number;
  /** Rows of activations, quantized. */
  readonly coded: number;
  readonly wide: number;
  readonly out: number;
  /** Floats from one row of results to the next. */
  readonly stride: number;
}

/**
 * Products of block types: rows of activations four at a time, and what is left of them one by one.
 * @param isWide All rows are at `wide` already, in the form of {@link formOf}.
 */
export function multiplyCoded(
  bank: Bank,
  type: IsqType,
  { weights, coded, wide, out, stride }: ProductAreas,
  outputs: number,
  rows: number,
  width: number,
  isWide = false,
): void {
  const { stem } = TYPES[type];
  const four = fourForm(type);
  const { widen } = rowForm(type);
  if (!four) {
    if (!isWide) bank.call(widen, coded, wide, rows, width);
    bank.call(`${stem}_matmul`, weights, wide, out, outputs, rows, width, stride);
    return;
  }
  const fours = rows - (rows % 4);
  if (fours > 0) {
    if (!isWide) bank.call(four.widen, coded, wide, fours, width);
    bank.call(`${stem}_matmul`, weights, wide, out, outputs, fours, width, stride);
  }
  const codedRow = activationBytes(type, width).coded;
  for (let row = fours; row < rows; row++) {
    if (!isWide) bank.call(widen, coded + row * codedRow, wide, 1, width);
    bank.call(`${stem}_matvec`, weights, wide, out + 4 * row * stride, outputs, width);
  }
}
