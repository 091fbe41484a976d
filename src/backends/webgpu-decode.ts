/** Decoding on the GPU, piece by piece. Blocks with infinite or NaN fields, and what leaves the normal numbers, by WebAssembly. */

import { checkAborted } from "../errors.js";
import { type IsqType, TYPES } from "../quants/table.js";
import type { QuantizedTensor } from "../quants/tensor.js";
import { teamOfOne } from "./team.js";
import type { Bank } from "./wasm-bank.js";
import { decode } from "./wasm-decode.js";
import type { GpuDevice } from "./webgpu-device.js";
import { pieceElements } from "./webgpu-encode.js";
import { runKernels, setParameters, upload } from "./webgpu-run.js";

/** Decodes into `out`; returns how many blocks WebAssembly did. */
export async function decodeOnGpu(
  gpu: GpuDevice,
  bank: Bank,
  tensor: QuantizedTensor,
  out: Float32Array,
  signal?: AbortSignal,
): Promise<number> {
  const { family, blockElements } = TYPES[tensor.type];
  if (out.length === 0) return 0;
  if (family === "block") return decodeBlocks(gpu, bank, tensor, out, signal);
  const tooLarge = family === "group" && tensor.data.length + 8 * tensor.scales!.length > gpu.mostBytes;
  const wild = family === "tensor" && !isTame(tensor.dequantizeScale!);
  const done =
    !tooLarge && !wild && (await (family === "group" ? decodeHqq : decodeFp8)(gpu, tensor, out, signal));
  if (done) return 0;
  decode(bank, tensor, out, teamOfOne());
  return out.length / blockElements;
}

const isTame = (scale: number): boolean => Math.abs(scale) >= 2 ** -60 && Math.abs(scale) <= 2 ** 60;

async function decodeBlocks(
  gpu: GpuDevice,
  bank: Bank,
  { type, algorithm, data }: QuantizedTensor,
  out: Float32Array,
  signal?: AbortSignal,
): Promise<number> {
  const { blockElements, blockBytes } = TYPES[type];
  const piece = Math.floor(pieceElements(gpu) / (2 * blockElements)) * 2 * blockElements;
  let repaired = 0;
  for (let first = 0; first < out.length; first += piece) {
    checkAborted(signal);
    const part = out.subarray(first, Math.min(out.length, first + piece));
    const blocks = part.length / blockElements;
    const from = (first / blockElements) * blockBytes;
    const bytes = data.subarray(from, from + blocks * blockBytes);
    setParameters(gpu, { count: part.length });
    upload(gpu, "words", bytes);
    const flagged = await runDequantize(gpu, type, {}, blocks, part, part.length / 4);
    repairBlocks(bank, type, algorithm, bytes, flagged, part);
    repaired += flagged.length;
  }
  return repaired;
}

/** Runs the kernel on what was uploaded, fills `part`, and returns the flagged units. */
function runDequantize(
  gpu: GpuDevice,
  type: IsqType,
  constants: Record<string, number>,
  units: number,
  part: Float32Array,
  threads: number,
): Promise<readonly number[]> {
  const kernel = { entryPoint: "dequantize", threads, groupThreads: 256 } as const;
  const result = { name: "result", byteLength: 4 * part.length } as const;
  return runKernels(gpu, type, constants, [kernel], units, result, (values, { flagged }) => {
    part.set(new Float32Array(values, 0, part.length));
    return flagged;
  });
}

function repairBlocks(
  bank: Bank,
  type: IsqType,
  algorithm: QuantizedTensor["algorithm"],
  bytes: Uint8Array,
  flagged: readonly number[],
  out: Float32Array,
): void {
  if (flagged.length === 0) return;
  const { blockElements, blockBytes } = TYPES[type];
  const data = new Uint8Array(flagged.length * blockBytes);
  for (const [i, block] of flagged.entries()) {
    data.set(bytes.subarray(block * blockBytes, (block + 1) * blockBytes), i * blockBytes);
  }
  const values = new Float32Array(flagged.length * blockElements);
  decode(bank, { type, algorithm, shape: [values.length], data }, values, teamOfOne());
  for (const [i, block] of flagged.entries()) {
    out.set(values.subarray(i * blockElements, (i + 1) * blockElements), block * blockElements);
  }
}

/** False when a group has a scale or zero that the GPU may not take. */
async function decodeHqq(
  gpu: GpuDevice,
  { type, algorithm, data, scales, zeros }: QuantizedTensor,
  out: Float32Array,
  signal?: AbortSignal,
): Promise<boolean> {
  const groups = scales!.length;
  const sidesAt = Math.ceil(data.length / 4);
  gpu.buffer("words", 4 * (sidesAt + 2 * groups));
  upload(gpu, "words", data);
  upload(gpu, "words", scales!, 4 * sidesAt);
  upload(gpu, "words", zeros!, 4 * (sidesAt + groups));
  const piece = pieceElements(gpu);
  for (let first = 0; first < out.length; first += piece) {
    checkAborted(signal);
    const part = out.subarray(first, Math.min(out.length, first + piece));
    setParameters(gpu, { count: part.length, first, groups, codesAt: sidesAt });
    const constants = { contiguous: algorithm === "hqq" ? 1 : 0 };
    const flagged = await runDequantize(gpu, type, constants, part.length / 64, part, part.length);
    if (flagged.length > 0) return false;
  }
  return true;
}

async function decodeFp8(
  gpu: GpuDevice,
  { type, data, dequantizeScale }: QuantizedTensor,
  out: Float32Array,
  signal?: AbortSignal,
): Promise<boolean> {
  const piece = pieceElements(gpu);
  for (let first = 0; first < out.length; first += piece) {
    checkAborted(signal);
    const part = out.subarray(first, Math.min(out.length, first + piece));
    setParameters(gpu, { count: part.length, factor: dequantizeScale! });
    upload(gpu, "words", data.subarray(first, first + part.length));
    await runDequantize(gpu, type, {}, 0, part, Math.ceil(part.length / 4));
  }
  return true;
}
