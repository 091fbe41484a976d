/** Weights in WebAssembly memory, whole or a share of their rows, and their products with activations. */

import { type Algorithm, type IsqType, TYPES } from "../quants/table.js";
import { rowElements } from "../quants/tensor.js";
import type { DenseType, Tensor } from "./backend.js";
import { isDense } from "./reference-linear.js";
import { activationBytes, multiplyCoded, partnerOf } from "./wasm-activations.js";
import type { Bank, Banks } from "./wasm-bank.js";
import { unitOf } from "./wasm-decode.js";
import { flatRowBytes, flattenCodes } from "./wasm-groups.js";
import { packRows, roomOf } from "./wasm-quads.js";

/** Consecutive rows of a weight in one memory. */
interface Piece {
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

/** Where the rows of a product's result go: row r's outputs from `first` on. */
export type StoreOutputs = (row: number, first: number, values: Float32Array) => void;

/** Bytes of activations and results that are in a bank at a time. */
const STAGE_BYTES = 4 * 2 ** 20;

/**
 * Products of the placed rows with `rows` rows of activations. `load(row, count, bank, address)` puts activation rows
 * into memory; `store` gets each piece's outputs, numbered as in the whole weight.
 */
export function multiplyRows(
  placed: PlacedRows,
  rows: number,
  load: (row: number, count: number, bank: Bank, address: number) => void,
  store: StoreOutputs,
): void {
  const { width, pieces, type } = placed;
  const partner = partnerOf(type);
  const bytes = partner === null ? { coded: 0, wide: 0 } : activationBytes(type as IsqType, width);
  for (const piece of pieces) {
    const each = 4 * width + bytes.coded + bytes.wide + 4 * piece.rows;
    const step = 4 * Math.max(1, Math.floor(STAGE_BYTES / (4 * each)));
    const { bank } = piece;
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row);
      const sizes = [4 * width, bytes.coded, bytes.wide, 4 * piece.rows].map((size) => size * count);
      const [x, coded, wide, out] = bank.scratch(...sizes);
      load(row, count, bank, x);
      if (partner === null) multiplyPiece(placed, piece, x, out, count);
      else {
        bank.call(`${TYPES[partner].stem}_quantize_ggml`, x, 0, coded, count, width);
        const areas = { weights: piece.address, coded, wide, out };
        multiplyCoded(bank, type as IsqType, areas, piece.rows, count, width);
      }
      const floats = bank.floats;
      for (let r = 0; r < count; r++) {
        const start = out / 4 + r * piece.rows;
        store(row + r, piece.firstRow, floats.subarray(start, start + piece.rows));
      }
    }
  }
}

/** Products of types that are decoded to floats, results at `out`, [rows × piece.rows]. */
function multiplyPiece(placed: PlacedRows, piece: Piece, x: number, out: number, rows: number): void {
  const { type, width } = placed;
  const { bank, address } = piece;
  const rest = [x, out, piece.rows, rows, width, piece.rows];
  if (type === "F32" || type === "F16" || type === "BF16") {
    bank.call(`${type.toLowerCase()}_matmul`, address, ...rest);
    return;
  }
  const { family, stem } = TYPES[type];
  if (family === "tensor") bank.call("fp8_matmul", address, placed.dequantizeScale!, ...rest);
  else {
    const { scales, zeros, groups, firstElement } = piece;
    const name = `${stem}_matmul_${placed.algorithm}`;
    bank.call(name, address, scales!, zeros!, groups!, firstElement!, ...rest);
  }
}
