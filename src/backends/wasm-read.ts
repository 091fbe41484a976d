/** Placed weights back as tensors, bit for bit. */

import { DENSE_BYTES } from "../dense.js";
import { TYPES } from "../quants/table.js";
import { dataByteLength, elementCount, type QuantizedTensor, rowElements } from "../quants/tensor.js";
import type { DenseTensor, Tensor } from "./backend.js";
import { flatRowBytes, gatherCodes } from "./wasm-groups.js";
import type { PlacedRows } from "./wasm-linear.js";
import { copyRowsTo } from "./wasm-quads.js";
import type { WeightUse } from "./wasm-weights.js";

type DenseForm = Omit<DenseTensor, "data">;

/** All of a tensor but its data. */
export type TensorForm = DenseForm | Omit<QuantizedTensor, "data" | "scales" | "zeros">;

/** What a session gives back of a tensor: vectors are kept decoded. */
export function formOf(tensor: Tensor, { vector }: WeightUse): TensorForm {
  if (vector) return { type: "F32", shape: tensor.shape };
  if (isDense(tensor)) return { type: tensor.type, shape: tensor.shape };
  const { data: _, scales: _scales, zeros: _zeros, ...form } = tensor;
  return form;
}

function isDense<Form extends { readonly type: string }>(form: Form): form is Form & DenseForm {
  return Object.hasOwn(DENSE_BYTES, form.type);
}

/** Where the parts of a weight are gathered; several members may fill one together. */
export interface ReadTarget {
  /** As in the tensor; codes of a matrix of HQQ in element order, as they are in memory. */
  readonly data: Uint8Array;
  readonly scales?: Float32Array;
  readonly zeros?: Float32Array;
}

/** How room for a weight is made. */
export interface Maker {
  bytes(length: number): Uint8Array;
  floats(length: number): Float32Array;
}

const PLAIN: Maker = {
  bytes: (length) => new Uint8Array(length),
  floats: (length) => new Float32Array(length),
};

/** A weight in memory of its own. `fill` lets every member put its part into the target. */
export async function readTensor(
  form: TensorForm,
  { rowsTo }: WeightUse,
  fill: (target: ReadTarget) => unknown,
  make: Maker = PLAIN,
): Promise<Tensor> {
  const own = (bytes: Uint8Array) => (make === PLAIN ? bytes : bytes.slice());
  const elements = elementCount(form.shape);
  if (isDense(form)) {
    const data = make.bytes(elements * DENSE_BYTES[form.type]);
    await fill({ data });
    return { ...form, data: own(data) };
  }
  const { type, shape, algorithm } = form;
  if (TYPES[type].family !== "group") {
    const data = make.bytes(dataByteLength(type, shape));
    await fill({ data });
    return { ...form, data: own(data) };
  }
  const [scales, zeros] = [make.floats(elements / 64), make.floats(elements / 64)];
  const width = rowElements(shape);
  const bits = type === "HQQ4" ? 4 : 8;
  const isMatrix = rowsTo !== null;
  const data = make.bytes(isMatrix ? (elements / width) * flatRowBytes(bits, width) : (elements * bits) / 8);
  await fill({ data, scales, zeros });
  const sides = { scales: scales.slice(), zeros: zeros.slice() };
  if (!isMatrix) return { ...form, data: own(data), ...sides };
  return { ...form, data: gatherCodes(data, scales.length, bits, algorithm === "hqq", width), ...sides };
}

/** Copies placed rows to where they belong. */
export function readRows(placed: PlacedRows, target: ReadTarget): void {
  const { type, pieces, rowBytes, algorithm, width } = placed;
  for (const piece of pieces) {
    const { bank, firstRow, scales, zeros, groups } = piece;
    copyRowsTo(target.data.subarray(firstRow * rowBytes), piece, type, width, rowBytes);
    if (scales === undefined || zeros === undefined) continue;
    const first = algorithm === "hqq" ? Math.floor((firstRow * width) / 64) : 0;
    target.scales!.set(bank.floats.subarray(scales / 4, scales / 4 + groups!), first);
    target.zeros!.set(bank.floats.subarray(zeros / 4, zeros / 4 + groups!), first);
  }
}

/** Copies a tensor that is held whole. */
export function copyTensor(tensor: Tensor, { data, scales, zeros }: ReadTarget): void {
  data.set(tensor.data);
  if (isDense(tensor) || !tensor.scales || !tensor.zeros) return;
  scales!.set(tensor.scales);
  zeros!.set(tensor.zeros);
}
