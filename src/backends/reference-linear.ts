/** Weights of any type times rows of activations, as the reference does it: one output after the other. */

import { DENSE_BYTES } from "../dense.js";
import { IsqError } from "../errors.js";
import { floatFromHalf, readU16 } from "../numerics.js";
import { blockCodec } from "../quants/codecs.js";
import { checkTensor, dequantize } from "../quants/index.js";
import { type IsqType, TYPES } from "../quants/table.js";
import { elementCount, rowElements } from "../quants/tensor.js";
import type { DenseTensor, Tensor } from "./backend.js";
import { dot, dotFour } from "./reference-kernels.js";

const f32 = Math.fround;

/** Decoded rows of a weight: `seek(r)` says where row r starts in `values`, until the next seek. */
export interface RowReader {
  readonly values: Float32Array;
  seek(row: number): number;
}

/** A matrix of activations or results, rows × width. */
export interface Matrix {
  readonly values: Float32Array;
  readonly width: number;
}

export function isDense(tensor: Tensor): tensor is DenseTensor {
  return tensor.type === "F32" || tensor.type === "F16" || tensor.type === "BF16";
}

/** The type whose integer dot multiplies this weight, or null when it is decoded to binary32. */
export function dotPartner(tensor: Tensor): IsqType | null {
  return isDense(tensor) ? null : TYPES[tensor.type].dotPartner;
}

/** Throws `data/length` unless the tensor's parts have the sizes its shape asks for. */
export function checkParts(tensor: Tensor): void {
  if (!isDense(tensor)) {
    checkTensor(tensor);
    return;
  }
  const wanted = elementCount(tensor.shape) * DENSE_BYTES[tensor.type];
  if (tensor.data.byteLength === wanted) return;
  throw new IsqError(
    "data/length",
    `${tensor.type} [${tensor.shape.join(", ")}] needs ${wanted} bytes, not ${tensor.data.byteLength}`,
    { field: "data", value: tensor.data.byteLength, limit: wanted },
  );
}

/** Opens a weight for reading rows in binary32. Only one row is decoded at a time, except for HQQ and FP8. */
export function openRows(tensor: Tensor): RowReader {
  const columns = rowElements(tensor.shape);
  if (!isDense(tensor)) {
    const { family, blockBytes, blockElements } = TYPES[tensor.type];
    if (family !== "block") return wholeRows(dequantize(tensor), columns);
    const codec = blockCodec(tensor.type);
    const rowBytes = (columns / blockElements) * blockBytes;
    return decodingRows(columns, (row, out) =>
      codec.decodeRow(tensor.data.subarray(row * rowBytes, (row + 1) * rowBytes), out),
    );
  }
  const { data, type } = tensor;
  if (type === "F32") return wholeRows(viewFloats(data), columns);
  return type === "BF16" ? bfloatRows(data, columns) : halfRows(data, columns);
}

function wholeRows(values: Float32Array, columns: number): RowReader {
  return { values, seek: (row) => row * columns };
}

function decodingRows(columns: number, decode: (row: number, out: Float32Array) => void): RowReader {
  const values = new Float32Array(columns);
  const seek = (row: number) => {
    decode(row, values);
    return 0;
  };
  return { values, seek };
}

function bfloatRows(data: Uint8Array, columns: number): RowReader {
  return decodingRows(columns, (row, out) => {
    const bits = new Uint32Array(out.buffer);
    const start = 2 * row * columns;
    for (let i = 0; i < columns; i++) {
      bits[i] = (data[start + 2 * i] << 16) | (data[start + 2 * i + 1] << 24);
    }
  });
}

function halfRows(data: Uint8Array, columns: number): RowReader {
  return decodingRows(columns, (row, out) => {
    for (let i = 0; i < columns; i++) out[i] = floatFromHalf(readU16(data, 2 * (row * columns + i)));
  });
}

/** The same bytes as binary32, copied only when they are not aligned. */
function viewFloats(data: Uint8Array): Float32Array {
  const aligned = data.byteOffset % 4 === 0 ? data : data.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, data.byteLength / 4);
}

/** out = x · weightᵀ for `rows` rows: the integer dot of the weight's type, or that of decoded values. */
export function multiplyRows(weight: Tensor, x: Matrix, rows: number, out: Matrix): void {
  const partner = dotPartner(weight);
  if (partner === null) multiplyDecoded(weight, x, rows, out);
  else multiplyBlocks(weight, prepareRows(partner, x, rows), out);
}

/** Quantizes activation rows to `partner` by the reference rule. */
function prepareRows(partner: IsqType, x: Matrix, rows: number): Uint8Array[] {
  const codec = blockCodec(partner);
  const { blockBytes, blockElements } = TYPES[partner];
  const rowBytes = (x.width / blockElements) * blockBytes;
  return Array.from({ length: rows }, (_, row) => {
    const bytes = new Uint8Array(rowBytes);
    codec.encodeRow("ggml", x.values.subarray(row * x.width, (row + 1) * x.width), undefined, bytes);
    return bytes;
  });
}

/** out[r][o] = integer dot of weight row o with prepared row r. */
function multiplyBlocks(weight: Tensor, prepared: readonly Uint8Array[], out: Matrix): void {
  const type = weight.type as IsqType;
  const codec = blockCodec(type);
  const { blockBytes, blockElements } = TYPES[type];
  const rowBytes = (rowElements(weight.shape) / blockElements) * blockBytes;
  for (let o = 0; o < out.width; o++) {
    const dotRow = codec.openRow(weight.data.subarray(o * rowBytes, (o + 1) * rowBytes));
    for (let r = 0; r < prepared.length; r++) out.values[r * out.width + o] = dotRow(prepared[r], "ggml");
  }
}

/** out[r][o] = eight-lane dot of decoded weight row o with row r of x. */
function multiplyDecoded(weight: Tensor, x: Matrix, rows: number, { values, width }: Matrix): void {
  const reader = openRows(weight);
  const w = reader.values;
  const columns = x.width;
  for (let o = 0; o < width; o++) {
    const start = reader.seek(o);
    let r = 0;
    for (; r + 4 <= rows; r += 4) {
      dotFour(w, start, x.values, r * columns, columns, columns, values, r * width + o, width);
    }
    for (; r < rows; r++) values[r * width + o] = dot(w, start, x.values, r * columns, columns);
  }
}

/** Adds bias[o] to output o of every row. */
export function addBias(bias: Float32Array, rows: number, { values, width }: Matrix): void {
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < width; o++) values[r * width + o] = f32(values[r * width + o] + bias[o]);
  }
}
