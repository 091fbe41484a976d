/** Weights on the GPU and products with them. */

import { type IsqType, TYPES } from "../quants/table.js";
import { elementCount, rowElements } from "../quants/tensor.js";
import type { Tensor } from "./backend.js";
import { dotPartner, isDense } from "./reference-linear.js";
import { dispatch, type GpuDevice, USAGE } from "./webgpu-device.js";
import type { ModuleName } from "./webgpu-modules.js";
import { type Parameters, parameterWords, setParameters, upload, writeWhole } from "./webgpu-run.js";

/** A weight as the kernels of products read it. */
export interface PlacedWeight {
  readonly module: ModuleName;
  readonly buffer: GPUBuffer;
  /** The type of the activations; null: binary32. */
  readonly partner: IsqType | null;
  readonly outputs: number;
  readonly columns: number;
  readonly parameters: Omit<Parameters, "count">;
  readonly constants?: Readonly<Record<string, number>>;
}

/** Offset and bytes of the fields that make a plane, in the order of the planes. Types that are absent stay as they are. */
export const PLANES: Readonly<Partial<Record<IsqType, readonly (readonly [number, number])[]>>> = {
  Q4_0: [
    [2, 16],
    [0, 2],
  ],
  Q4_1: [
    [4, 16],
    [0, 4],
  ],
  Q5_0: [
    [6, 16],
    [2, 4],
    [0, 2],
  ],
  Q5_1: [
    [8, 16],
    [4, 4],
    [0, 4],
  ],
  Q8_0: [
    [2, 32],
    [0, 2],
  ],
  Q8_1: [
    [4, 32],
    [0, 4],
  ],
  Q2K: [
    [16, 64],
    [0, 16],
    [80, 4],
  ],
  Q3K: [
    [32, 64],
    [0, 32],
    [96, 12],
    [108, 2],
  ],
  Q6K: [
    [0, 128],
    [128, 64],
    [192, 16],
    [208, 2],
  ],
  Q8K: [
    [4, 256],
    [0, 4],
    [260, 32],
  ],
};

const OUTPUTS_PER_GROUP = 4;
/** Of the kernels of products. */
export const MOST_ROWS = 8;
export const TEAM_THREADS = 128;

/** Bytes that a placed weight takes. */
export function placedByteLength(tensor: Tensor): number {
  if (isDense(tensor)) return tensor.data.byteLength;
  const { family, blockElements, blockBytes } = TYPES[tensor.type];
  if (family !== "block") return Math.ceil(tensor.data.byteLength / 4) * 4 + 8 * (tensor.scales?.length ?? 0);
  const bytes = PLANES[tensor.type]?.reduce((sum, [, size]) => sum + size, 0) ?? blockBytes;
  return (elementCount(tensor.shape) / blockElements) * bytes;
}

const WEIGHT_USAGE = USAGE.STORAGE | USAGE.COPY_DST | USAGE.COPY_SRC;

/** Puts a weight into a buffer of its own. The caller frees it. Blocks of a table stay as they are, for its rows are decoded. */
export async function placeWeight(gpu: GpuDevice, tensor: Tensor, asTable = false): Promise<PlacedWeight> {
  const columns = rowElements(tensor.shape);
  const outputs = tensor.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const buffer = gpu.allocate("weight", placedByteLength(tensor), WEIGHT_USAGE);
  const base = { width: columns, outputs };
  const weight = { module: tensor.type, buffer, partner: dotPartner(tensor), outputs, columns };
  if (isDense(tensor)) {
    writeWhole(gpu, buffer, tensor.data);
    return { ...weight, parameters: base };
  }
  const { family, blockElements } = TYPES[tensor.type];
  if (family === "tensor") {
    writeWhole(gpu, buffer, tensor.data);
    return { ...weight, parameters: { ...base, factor: tensor.dequantizeScale! } };
  }
  if (family === "group") {
    const sidesAt = Math.ceil(tensor.data.length / 4);
    const groups = tensor.scales!.length;
    writeWhole(gpu, buffer, tensor.data);
    writeWhole(gpu, buffer, tensor.scales!, 4 * sidesAt);
    writeWhole(gpu, buffer, tensor.zeros!, 4 * (sidesAt + groups));
    const constants = { contiguous: tensor.algorithm === "hqq" ? 1 : 0 };
    return { ...weight, parameters: { ...base, codesAt: sidesAt, groups }, constants };
  }
  const blocks = elementCount(tensor.shape) / blockElements;
  if (PLANES[tensor.type] && !asTable) await arrange(gpu, tensor.type, tensor.data, blocks, buffer);
  else writeWhole(gpu, buffer, tensor.data);
  return { ...weight, parameters: { ...base, blocks } };
}

/** Fills `placed` with the planes of blocks that lie side by side. */
async function arrange(
  gpu: GpuDevice,
  type: IsqType,
  data: Uint8Array,
  blocks: number,
  placed: GPUBuffer,
): Promise<void> {
  if (blocks === 0) return;
  const planes = PLANES[type]!;
  const words = Math.ceil((blocks * planes.reduce((sum, [, bytes]) => sum + bytes, 0)) / 4);
  const uniform = new Uint32Array(12);
  uniform.set([blocks, TYPES[type].blockBytes, planes.length, words, ...planes.flat()]);
  upload(gpu, "words", data);
  gpu.device.queue.writeBuffer(gpu.buffer("parameters", 64), 0, uniform);
  const pipeline = await gpu.pipeline({ type: "arrange", entryPoint: "arrange" });
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, gpu.bindKept({ result: placed }));
  dispatch(pass, words, 256);
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
}

/** activations [rows × columns] · weightᵀ → [rows × outputs]. */
export async function multiplyOnGpu(
  gpu: GpuDevice,
  weight: PlacedWeight,
  activations: Float32Array,
  rows: number,
): Promise<Float32Array> {
  const { module, partner, outputs, constants = {} } = weight;
  setParameters(gpu, { count: activations.length });
  upload(gpu, "values", activations);
  const words = parameterWords({ ...weight.parameters, count: activations.length, rows });
  const uniform = gpu.device.createBuffer({ size: words.byteLength, usage: USAGE.UNIFORM | USAGE.COPY_DST });
  gpu.device.queue.writeBuffer(uniform, 0, words);
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  let prepared = gpu.buffer("values", 64);
  let sides = gpu.buffer("scratch", 64);
  if (partner !== null) {
    prepared = gpu.buffer("result", activations.length);
    sides = gpu.buffer("scratch", activations.length / 4);
    pass.setPipeline(await gpu.pipeline({ type: partner, entryPoint: "prepare" }));
    pass.setBindGroup(0, gpu.bindKept());
    dispatch(pass, activations.length / 4, 256);
  }
  const sums = gpu.buffer("sums", 4 * rows * outputs);
  const entryPoint = rows === 1 && partner !== null ? "matvec" : "matmul";
  pass.setPipeline(await gpu.pipeline({ type: module, entryPoint, constants, layout: "linear" }));
  pass.setBindGroup(0, gpu.bind("linear", [uniform, prepared, weight.buffer, sides, sums]));
  const groups = Math.ceil(outputs / OUTPUTS_PER_GROUP);
  dispatch(pass, groups * TEAM_THREADS, TEAM_THREADS, Math.ceil(rows / MOST_ROWS));
  pass.end();
  const range = { buffer: sums, byteOffset: 0, byteLength: 4 * rows * outputs };
  try {
    return await gpu.read(encoder, [range], ([bytes]) => new Float32Array(bytes, 0, rows * outputs).slice());
  } finally {
    uniform.destroy();
  }
}
