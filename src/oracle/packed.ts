/** A quantized tensor as one run of bytes, as the vector streams carry it. */

import { type Algorithm, type IsqType, type QuantizedTensor, TYPES } from "../quants/index.js";
import { dataByteLength } from "../quants/tensor.js";

/**
 * The bytes of a tensor: `data`; for HQQ then scales and zeros; for FP8 then quantizeScale and dequantizeScale; all
 * binary32 little-endian.
 */
export function packTensor(tensor: QuantizedTensor): Uint8Array {
  const { data, scales, zeros, quantizeScale, dequantizeScale } = tensor;
  if (scales && zeros) return join([data, bytesOf(scales), bytesOf(zeros)]);
  if (dequantizeScale === undefined) return data;
  return join([data, bytesOf(Float32Array.of(quantizeScale ?? 1 / dequantizeScale, dequantizeScale))]);
}

/** The tensor of shape [1, columns] that {@link packTensor} made these bytes of. */
export function unpackTensor(
  type: IsqType,
  algorithm: Algorithm,
  columns: number,
  bytes: Uint8Array,
): QuantizedTensor {
  const shape = [1, columns];
  const dataBytes = dataByteLength(type, shape);
  const base = { type, algorithm, shape, data: bytes.subarray(0, dataBytes) };
  const sides = floatsOf(bytes.subarray(dataBytes));
  const { family } = TYPES[type];
  if (family === "block") return base;
  if (family === "tensor") return { ...base, quantizeScale: sides[0], dequantizeScale: sides[1] };
  return { ...base, scales: sides.slice(0, sides.length / 2), zeros: sides.slice(sides.length / 2) };
}

/** The bytes of binary32 numbers, little-endian (as every JavaScript engine stores them). */
export function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** The binary32 numbers of little-endian bytes, copied: bytes need not be aligned. */
export function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer);
}

export function join(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}
