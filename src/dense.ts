/** Unquantized tensors: their element sizes and their widening to binary32. */

import type { DenseTensor, DenseType } from "./backends/backend.js";
import { IsqError } from "./errors.js";
import { bfloatFromFloat, floatFromBfloat, floatFromHalf, halfFromFloat } from "./numerics.js";
import { elementCount } from "./quants/tensor.js";

export const DENSE_BYTES: Readonly<Record<DenseType, number>> = { F32: 4, F16: 2, BF16: 2 };

/** Whether a type name is that of unquantized tensors. */
export function isDense(type: string): type is DenseType {
  return Object.hasOwn(DENSE_BYTES, type);
}

/** Widens `data` to binary32 (exact). Throws `data/length` unless it has the bytes its shape asks for. */
export function widen(tensor: DenseTensor): Float32Array {
  const count = elementCount(tensor.shape);
  const { data, type } = tensor;
  if (data.byteLength !== count * DENSE_BYTES[type]) {
    throw new IsqError(
      "data/length",
      `${type} [${tensor.shape.join(", ")}] needs ${count * DENSE_BYTES[type]} bytes, not ${data.byteLength}`,
      { field: "data", value: data.byteLength, limit: count * DENSE_BYTES[type] },
    );
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const values = new Float32Array(count);
  if (type === "F32") {
    for (let i = 0; i < count; i++) values[i] = view.getFloat32(4 * i, true);
  } else if (type === "BF16") {
    for (let i = 0; i < count; i++) values[i] = floatFromBfloat(view.getUint16(2 * i, true));
  } else {
    for (let i = 0; i < count; i++) values[i] = floatFromHalf(view.getUint16(2 * i, true));
  }
  return values;
}

/** Rounds binary32 values to a dense type (nearest, ties to even). Little-endian bytes. */
export function narrow(values: Float32Array, type: DenseType): Uint8Array {
  const data = new Uint8Array(values.length * DENSE_BYTES[type]);
  const view = new DataView(data.buffer);
  for (let i = 0; i < values.length; i++) {
    if (type === "F32") view.setFloat32(4 * i, values[i], true);
    else view.setUint16(2 * i, type === "F16" ? halfFromFloat(values[i]) : bfloatFromFloat(values[i]), true);
  }
  return data;
}
