/** Weights of a running model on the GPU: matrices for products, tables as they are, vectors in binary32; and back. */

import { DENSE_BYTES } from "../dense.js";
import { type IsqType, TYPES } from "../quants/table.js";
import { dataByteLength, elementCount, rowElements } from "../quants/tensor.js";
import type { Tensor } from "./backend.js";
import { openRows } from "./reference-linear.js";
import { formOf, type TensorForm } from "./wasm-read.js";
import type { WeightUse } from "./wasm-weights.js";
import { type GpuDevice, USAGE } from "./webgpu-device.js";
import { PLANES, type PlacedWeight, placeWeight } from "./webgpu-linear.js";

const f32 = Math.fround;

/** A norm or a bias: as it was placed, and on the GPU with the offset of its norm added. */
export interface GpuVector {
  readonly values: Float32Array;
  readonly buffer: GPUBuffer;
}

/** A weight's parts, by what it is used for. */
export interface GpuWeight {
  readonly form: TensorForm;
  readonly rows: PlacedWeight | null;
  readonly table: PlacedWeight | null;
  readonly vector: GpuVector | null;
}

export async function placeGpuWeight(gpu: GpuDevice, tensor: Tensor, use: WeightUse): Promise<GpuWeight> {
  const made: PlacedWeight[] = [];
  const put = async (asTable: boolean) => {
    const placed = await placeWeight(gpu, tensor, asTable);
    made.push(placed);
    return placed;
  };
  try {
    return {
      form: formOf(tensor, use),
      rows: use.rowsTo === null ? null : await put(false),
      table: use.embedding ? await put(true) : null,
      vector: use.vector && placeVector(gpu, tensor, use.vector.offset),
    };
  } catch (error) {
    for (const { buffer } of made) gpu.free(buffer);
    throw error;
  }
}

export function freeGpuWeight(gpu: GpuDevice, { rows, table, vector }: GpuWeight): void {
  for (const part of [rows, table, vector]) if (part) gpu.free(part.buffer);
}

function placeVector(gpu: GpuDevice, tensor: Tensor, offset: number): GpuVector {
  const reader = openRows(tensor);
  const start = reader.seek(0);
  const values = reader.values.slice(start, start + rowElements(tensor.shape));
  const buffer = gpu.allocate("vector", values.byteLength, USAGE.STORAGE | USAGE.COPY_DST);
  const added = f32(offset);
  const shifted = added === 0 ? values : values.map((value) => f32(added + value));
  gpu.device.queue.writeBuffer(buffer, 0, shifted);
  return { values, buffer };
}

/** The tensor that was placed, bit for bit; vectors as F32. */
export async function readGpuWeight(gpu: GpuDevice, weight: GpuWeight): Promise<Tensor> {
  const { form, rows, table, vector } = weight;
  if (vector) return { type: "F32", shape: form.shape, data: new Uint8Array(vector.values.slice().buffer) };
  const { buffer } = (rows ?? table)!;
  const bytes = await readBuffer(gpu, buffer);
  const elements = elementCount(form.shape);
  if (form.type === "F32" || form.type === "F16" || form.type === "BF16") {
    return { ...form, type: form.type, data: bytes.slice(0, elements * DENSE_BYTES[form.type]) };
  }
  const { type, shape, algorithm } = form as Extract<TensorForm, { algorithm: unknown }>;
  const byteLength = dataByteLength(type, shape);
  if (TYPES[type].family === "group") {
    const floats = new Float32Array(bytes.buffer, Math.ceil(byteLength / 4) * 4, elements / 32);
    const [scales, zeros] = [floats.slice(0, elements / 64), floats.slice(elements / 64)];
    return { ...form, type, shape, algorithm, data: bytes.slice(0, byteLength), scales, zeros };
  }
  const isArranged = rows !== null && TYPES[type].family === "block" && PLANES[type] !== undefined;
  const data = isArranged ? gatherPlanes(type, bytes, byteLength) : bytes.slice(0, byteLength);
  return { ...form, type, shape, algorithm, data };
}

async function readBuffer(gpu: GpuDevice, buffer: GPUBuffer): Promise<Uint8Array<ArrayBuffer>> {
  const encoder = gpu.device.createCommandEncoder();
  const range = { buffer, byteOffset: 0, byteLength: buffer.size };
  return gpu.read(encoder, [range], ([bytes]) => new Uint8Array(bytes.slice(0)));
}

/** Blocks side by side, from their planes. */
function gatherPlanes(type: IsqType, planes: Uint8Array, byteLength: number): Uint8Array {
  const { blockBytes } = TYPES[type];
  const data = new Uint8Array(byteLength);
  const blocks = byteLength / blockBytes;
  let at = 0;
  for (const [offset, bytes] of PLANES[type]!) {
    for (let block = 0; block < blocks; block++, at += bytes) {
      data.set(planes.subarray(at, at + bytes), block * blockBytes + offset);
    }
  }
  return data;
}
