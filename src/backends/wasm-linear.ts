/** Weights in WebAssembly memory, whole or a share of their rows; wasm-product.ts multiplies with them. */

import { type Algorithm, type IsqType, TYPES } from "../quants/table.js";
import { rowElements } from "../quants/tensor.js";
import type { DenseType, Tensor } from "./backend.js";
import { isDense } from "./reference-linear.js";
import type { Bank, Banks } from "./wasm-bank.js";
import { unitOf } from "./wasm-decode.js";
import { flatRowBytes, flattenCodes } from "./wasm-groups.js";
import { packRows, roomOf } from "./wasm-quads.js";

/** Consecutive rows of a weight in one memory. */
export interface Piece {
  readonly bank: Bank;
  readonly address: number;
  /** Row of the whole weight. */
  readonly firstRow: number;
  readonly rows: number;
  /** HQQ: where scales and zeros are, and how many groups. */
  readonly scales?: number;
  readonly zeros?: number;
  readonly groups?: number;
  /** HQQ: the piece's first element, counted from its first group. */
  readonly firstElement?: number;
}

/** Rows of a weight, ready for products. */
export interface PlacedRows {
  readonly type: IsqType | DenseType;
  readonly algorithm?: Algorithm;
  readonly dequantizeScale?: number;
  readonly width: number;
  readonly pieces: readonly Piece[];
  /** Bytes per row in memory. */
  readonly rowBytes: number;
}

/** Most bytes of one piece: small enough that the ends of memories are not wasted. */
const PIECE_BYTES = 8 * 2 ** 20;

/** What decides how the rows of a tensor lie in memory. */
export type RowForm = Pick<PlacedRows, "type" | "algorithm" | "dequantizeScale" | "width">;

/**
 * Makes room for rows `first` to `last` (block, FP8 and dense types); the caller writes them as they are stored and calls
 * {@link finishRows}. Throws `backend/memory` and leaves nothing behind.
 */
export async function reserveRows(
  banks: Banks,
  form: RowForm,
  first: number,
  last: number,
): Promise<PlacedRows> {
  const { elements, bytes } = unitOf(form.type);
  const rowBytes = (form.width / elements) * bytes;
  const rowsPerPiece = 4 * Math.max(1, Math.floor(PIECE_BYTES / Math.max(1, 4 * rowBytes)));
  const pieces: Piece[] = [];
  const placed = { ...form, rowBytes, pieces };
  try {
    for (let row = first; row < last; row += rowsPerPiece) {
      const rows = Math.min(rowsPerPiece, last - row);
      const room = roomOf(form.type, rows);
      pieces.push({ ...(await banks.allocate(room * rowBytes)), firstRow: row, rows });
    }
  } catch (error) {
    freeRows(placed);
    throw error;
  }
  return placed;
}

/** Brings rows that were written into the form of the products. */
export function finishRows({ type, width, rowBytes, pieces }: PlacedRows): void {
  for (const piece of pieces) packRows(piece, type, width, rowBytes);
}

export function freeRows({ pieces }: PlacedRows): void {
  for (const { bank, address, scales, zeros } of pieces) {
    bank.free(address);
    if (scales !== undefined) bank.free(scales);
    if (zeros !== undefined) bank.free(zeros);
  }
}

/** Copies rows `first` to `last` of a tensor. Throws `backend/memory`. */
export async function placeRows(
  banks: Banks,
  tensor: Tensor,
  first: number,
  last: number,
): Promise<PlacedRows> {
  const width = rowElements(tensor.shape);
  if (!isDense(tensor) && TYPES[tensor.type].family === "group") {
    return placeGroups(banks, tensor, width, first, last);
  }
  const form: RowForm = isDense(tensor)
    ? { type: tensor.type, width }
    : {
        type: tensor.type,
        algorithm: tensor.algorithm,
        width,
        ...(tensor.dequantizeScale !== undefined && { dequantizeScale: tensor.dequantizeScale }),
      };
  const placed = await reserveRows(banks, form, first, last);
  const { rowBytes } = placed;
  for (const { bank, address, firstRow, rows } of placed.pieces) {
    bank.bytes.set(tensor.data.subarray(firstRow * rowBytes, (firstRow + rows) * rowBytes), address);
  }
  finishRows(placed);
  return placed;
}

/** Writes bytes at an offset from the first row that is reserved. */
export function writeRows({ pieces, rowBytes }: PlacedRows, bytes: Uint8Array, offset: number): void {
  const origin = pieces[0].firstRow;
  for (const { bank, address, firstRow, rows } of pieces) {
    const start = (firstRow - origin) * rowBytes;
    const from = Math.max(start, offset);
    const to = Math.min(start + rows * rowBytes, offset + bytes.length);
    if (from < to) bank.bytes.set(bytes.subarray(from - offset, to - offset), address + from - start);
  }
}

/** HQQ is kept with its codes in element order, because its own order mixes all rows. */
async function placeGroups(
  banks: Banks,
  tensor: Exclude<Tensor, { readonly type: DenseType }>,
  width: number,
  first: number,
  last: number,
): Promise<PlacedRows> {
  const bits = tensor.type === "HQQ4" ? 4 : 8;
  const contiguous = tensor.algorithm === "hqq";
  const scales = tensor.scales!;
  const zeros = tensor.zeros!;
  const rowBytes = flatRowBytes(bits, width);
  const rowsPerPiece = Math.max(1, Math.floor(PIECE_BYTES / Math.max(1, rowBytes)));
  const pieces: Piece[] = [];
  const placed = { type: tensor.type, algorithm: tensor.algorithm, width, rowBytes, pieces };
  try {
    for (let row = first; row < last; row += rowsPerPiece) {
      const rows = Math.min(rowsPerPiece, last - row);
      const from = row * width;
      const groupFirst = contiguous ? Math.floor(from / 64) : 0;
      const groupLast = contiguous ? Math.ceil((from + rows * width) / 64) : scales.length;
      const groups = groupLast - groupFirst;
      const codes = await banks.allocate(rows * rowBytes);
      const scalesAt = codes.bank.allocate(4 * groups);
      const zerosAt = codes.bank.allocate(4 * groups);
      pieces.push({
        ...codes,
        firstRow: row,
        rows,
        scales: scalesAt,
        zeros: zerosAt,
        groups,
        firstElement: from - 64 * groupFirst,
      });
      codes.bank.floats.set(scales.subarray(groupFirst, groupLast), scalesAt / 4);
      codes.bank.floats.set(zeros.subarray(groupFirst, groupLast), zerosAt / 4);
      const memory = codes.bank.bytes.subarray(codes.address, codes.address + rows * rowBytes);
      flattenCodes(tensor.data, scales.length, bits, contiguous, from, width, memory);
    }
  } catch (error) {
    freeRows(placed);
    throw error;
  }
  return placed;
}
