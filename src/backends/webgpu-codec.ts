/** The codec half of the WebGPU backend: the GPU's work, and what it flags again by WebAssembly. */

import { TYPES } from "../quants/table.js";
import { dataByteLength, nonFiniteError, type QuantizedTensor } from "../quants/tensor.js";
import type { WorkOptions } from "./backend.js";
import { newBadTile } from "./encode-job.js";
import { teamOfOne } from "./team.js";
import type { Bank } from "./wasm-bank.js";
import { arrayReader, encode } from "./wasm-encode.js";
import { finishTensor, sideArrays } from "./wasm-parts.js";
import type { GpuDevice } from "./webgpu-device.js";
import { type EncodeJob, encodeBlocks } from "./webgpu-encode.js";
import { encodeFp8, encodeHqq } from "./webgpu-tensors.js";

/** Quantizes finite values. Throws `values/non-finite`. */
export function quantizeOnGpu(
  gpu: GpuDevice,
  bank: Bank,
  job: EncodeJob,
  values: Float32Array,
  options: WorkOptions,
): Promise<QuantizedTensor> {
  const { family } = TYPES[job.type];
  return family === "block"
    ? quantizeBlocks(gpu, bank, job, values, options)
    : quantizeWhole(gpu, bank, job, values, options);
}

async function quantizeBlocks(
  gpu: GpuDevice,
  bank: Bank,
  job: EncodeJob,
  values: Float32Array,
  { shape, name, signal }: WorkOptions,
): Promise<QuantizedTensor> {
  const { blockElements, blockBytes } = TYPES[job.type];
  const data = new Uint8Array(dataByteLength(job.type, shape));
  const flagged: number[] = [];
  const bad = await encodeBlocks(
    gpu,
    job,
    values,
    (bytes, first, report) => {
      data.set(bytes, (first / blockElements) * blockBytes);
      for (const block of report.flagged) flagged.push(first / blockElements + block);
    },
    signal,
  );
  if (bad >= 0) throw nonFiniteError(values[bad], bad, name);
  const reencodedBlocks = repair(bank, job, values, flagged, data);
  const { type, algorithm } = job;
  return {
    type,
    algorithm,
    shape: Object.freeze([...shape]),
    data,
    ...(reencodedBlocks > 0 && { reencodedBlocks }),
    ...(flagged.length > 0 && { repairedBlocks: flagged.length }),
  };
}

/**
 * Encodes the flagged blocks again, under importance the rows that have some (its weights may look at the whole row).
 * Returns how many were encoded a further time without importance.
 */
function repair(
  bank: Bank,
  { type, algorithm, width, importance }: EncodeJob,
  values: Float32Array,
  flagged: readonly number[],
  data: Uint8Array,
): number {
  if (flagged.length === 0) return 0;
  const { blockElements, blockBytes } = TYPES[type];
  const elements = importance ? width : blockElements;
  const bytes = (elements / blockElements) * blockBytes;
  const units = [...new Set(flagged.map((block) => Math.floor((block * blockElements) / elements)))];
  const gathered = new Float32Array(units.length * elements);
  for (const [i, unit] of units.entries()) {
    gathered.set(values.subarray(unit * elements, (unit + 1) * elements), i * elements);
  }
  const job = { type, algorithm, count: gathered.length, width: elements, ...(importance && { importance }) };
  const again = new Uint8Array(units.length * bytes);
  const out = { data: again, bad: newBadTile(new Int32Array(1)) };
  const { reencodedBlocks } = encode(bank, job, arrayReader(gathered), out, teamOfOne());
  for (const [i, unit] of units.entries()) {
    data.set(again.subarray(i * bytes, (i + 1) * bytes), unit * bytes);
  }
  return reencodedBlocks;
}

async function quantizeWhole(
  gpu: GpuDevice,
  bank: Bank,
  job: EncodeJob,
  values: Float32Array,
  { shape, name, signal }: WorkOptions,
): Promise<QuantizedTensor> {
  const { family, blockElements } = TYPES[job.type];
  const found =
    job.count === 0 ? null : await (family === "group" ? encodeHqq : encodeFp8)(gpu, job, values, signal);
  if (found && "nonFinite" in found) throw nonFiniteError(values[found.nonFinite], found.nonFinite, name);
  const { type, algorithm, count } = job;
  if (found) {
    const { repaired, ...parts } = found;
    const label = { type, algorithm, shape: Object.freeze([...shape]) };
    return { ...label, ...parts, ...(repaired > 0 && { repairedBlocks: repaired }) };
  }
  const data = new Uint8Array(dataByteLength(type, shape));
  const sides = sideArrays(type, count, 1, (floats) => new Float32Array(floats));
  const out = { data, ...sides, bad: newBadTile(new Int32Array(1)) };
  const result = encode(bank, job, arrayReader(values), out, teamOfOne());
  if (result.nonFinite >= 0) throw nonFiniteError(result.nonFiniteValue!, result.nonFinite, name);
  const { votes: _, ...parts } = { data, ...sides };
  const repairedBlocks = count / blockElements;
  return {
    ...finishTensor(type, algorithm, shape, parts, [result]),
    ...(repairedBlocks > 0 && { repairedBlocks }),
  };
}
