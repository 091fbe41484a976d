/**
 * isq/quants: the quantizers as pure functions. No input is modified, nothing is cached, nothing outside of the
 * language is needed; results depend on the arguments alone, in every runtime.
 */

import { IsqError } from "../errors.js";
import { checkQuantize } from "./check.js";
import type { DotOrder } from "./codec.js";
import { blockCodec, tensorCodec } from "./codecs.js";
import { type IsqType, TYPES } from "./table.js";
import {
  checkShape,
  dataByteLength,
  elementCount,
  parseAlgorithm,
  parseType,
  type QuantizedTensor,
  type QuantizeOptions,
} from "./tensor.js";

export type { ErrorDetails, ErrorTag } from "../errors.js";
export { IsqError, isIsqError } from "../errors.js";
export { checkQuantize } from "./check.js";
export type { DotOrder } from "./codec.js";
export type { Algorithm, Field, IsqType, TypeRow } from "./table.js";
export { TYPE_NAMES, TYPES } from "./table.js";
export type { QuantizedTensor, QuantizeOptions } from "./tensor.js";
export { bitsPerWeight, byteLengthOf, parseAlgorithm, parseType } from "./tensor.js";

/**
 * Quantizes row-major binary32 values of the given shape; blocks run along the last dimension.
 *
 * Throws an IsqError tagged `type/unknown`, `algorithm/unknown`, `shape/*`, `importance/*`, `values/non-finite` or
 * `option/*`. Contract and sources: one file per type in this folder.
 */
export function quantize(type: string, values: Float32Array, options: QuantizeOptions): QuantizedTensor {
  const { row, algorithm, width } = checkQuantize(type, values, options);
  const shape = Object.freeze([...options.shape]);
  if (row.family !== "block") {
    return { type: row.name, algorithm, shape, ...tensorCodec(row.name).encode(algorithm, values, options) };
  }
  const codec = blockCodec(row.name);
  const data = new Uint8Array(dataByteLength(row.name, shape));
  const rowBytes = (width / row.blockElements) * row.blockBytes;
  const rows = width === 0 ? 0 : values.length / width;
  let reencodedBlocks = 0;
  for (let r = 0; r < rows; r++) {
    const x = values.subarray(r * width, (r + 1) * width);
    const out = data.subarray(r * rowBytes, (r + 1) * rowBytes);
    reencodedBlocks += codec.encodeRow(algorithm, x, options.importance, out);
  }
  return { type: row.name, algorithm, shape, data, ...(reencodedBlocks > 0 && { reencodedBlocks }) };
}

/** Throws unless the tensor's parts have the sizes that its type and shape ask for. */
export function checkTensor(tensor: QuantizedTensor): void {
  const type = parseType(tensor.type);
  parseAlgorithm(type, tensor.algorithm);
  checkShape(TYPES[type], tensor.shape);
  const expect = (field: string, actual: unknown, wanted: unknown) => {
    if (actual === wanted) return;
    throw new IsqError(
      "data/length",
      `${type} [${tensor.shape.join(", ")}] needs ${field} ${wanted}, not ${actual}`,
      {
        field,
        value: actual,
        limit: wanted,
      },
    );
  };
  expect("data.byteLength", tensor.data?.byteLength, dataByteLength(type, tensor.shape));
  if (TYPES[type].family === "group") {
    const groups = elementCount(tensor.shape) / TYPES[type].blockElements;
    expect("scales.length", tensor.scales?.length, groups);
    expect("zeros.length", tensor.zeros?.length, groups);
  }
  if (TYPES[type].family === "tensor")
    expect("typeof dequantizeScale", typeof tensor.dequantizeScale, "number");
}

/** Decodes a quantized tensor to binary32, row-major. Throws `data/length` when its parts do not fit its shape. */
export function dequantize(tensor: QuantizedTensor): Float32Array {
  checkTensor(tensor);
  const out = new Float32Array(elementCount(tensor.shape));
  if (TYPES[tensor.type].family === "block") blockCodec(tensor.type).decodeRow(tensor.data, out);
  else tensorCodec(tensor.type).decode(tensor, out);
  return out;
}

/**
 * Dot product of one row of a block type with one row of its dot partner (`TYPES[type].dotPartner`), in binary32 and in
 * the named order of float steps. Throws `data/length` when the two rows differ in length.
 */
export function dot(
  type: string,
  weights: Uint8Array,
  activations: Uint8Array,
  order: DotOrder = "ggml",
): number {
  const row = TYPES[parseType(type)];
  const codec = blockCodec(row.name);
  const partner = TYPES[row.dotPartner as IsqType];
  const blocks = weights.length / row.blockBytes;
  if (!Number.isInteger(blocks) || activations.length !== blocks * partner.blockBytes) {
    throw new IsqError(
      "data/length",
      `${weights.length} bytes of ${row.name} and ${activations.length} of ${partner.name} are not rows of one length`,
      { field: "activations", value: activations.length, limit: blocks * partner.blockBytes },
    );
  }
  return codec.openRow(weights)(activations, order);
}
