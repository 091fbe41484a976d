/**
 * Encoding HQQ and FP8 on the GPU. Their unit is the tensor: FP8 needs its peak first, HQQ a vote after every round, in
 * binary64 and in the order of the groups, which the host takes. What the GPU cannot do in the contract's arithmetic is
 * left to WebAssembly as a whole: null.
 */

import { checkAborted } from "../errors.js";
import { bfloatFromFloat, e4m3FromFloat, floatFromBfloat, fromBits } from "../numerics.js";
import { dataByteLength, type QuantizedTensor } from "../quants/tensor.js";
import type { GpuDevice } from "./webgpu-device.js";
import { constantsOf, type EncodeJob, pieceElements } from "./webgpu-encode.js";
import { runKernels, setParameters, upload } from "./webgpu-run.js";

const f32 = Math.fround;
const GROUP = 64;
const ROUNDS = 10;
/** Elements of one flag of FP8. */
const RUN = 32;

export interface TensorResult extends Pick<QuantizedTensor, "scales" | "zeros"> {
  readonly data: Uint8Array;
  readonly quantizeScale?: number;
  readonly dequantizeScale?: number;
  readonly repaired: number;
}

/** The first non-finite element, or the parts; null when WebAssembly has to do it. */
export type TensorOutcome = { readonly nonFinite: number } | TensorResult | null;

export async function encodeFp8(
  gpu: GpuDevice,
  job: EncodeJob,
  values: Float32Array,
  signal?: AbortSignal,
): Promise<TensorOutcome> {
  const piece = pieceElements(gpu);
  const constants = constantsOf(job);
  const partOf = (first: number) => values.subarray(first, Math.min(job.count, first + piece));
  let peak = 0;
  for (let first = 0; first < job.count; first += piece) {
    checkAborted(signal);
    const part = partOf(first);
    setParameters(gpu, { count: part.length });
    upload(gpu, "values", part);
    const kernel = {
      entryPoint: "find_peak",
      threads: Math.ceil(part.length / 32),
      groupThreads: 256,
    } as const;
    const none = { name: "result", byteLength: 0 } as const;
    const report = await runKernels(gpu, "FP8", constants, [kernel], 0, none, (_, found) => found);
    if (report.nonFinite >= 0) return { nonFinite: first + report.nonFinite };
    peak = Math.max(peak, fromBits(report.word));
  }
  const scales = scalesOf(job.algorithm === "ocp", peak);
  if (!(scales.factor >= 2 ** -50 && scales.factor <= 2 ** 50)) return null;
  const data = new Uint8Array(job.count);
  let repaired = 0;
  for (let first = 0; first < job.count; first += piece) {
    checkAborted(signal);
    const part = partOf(first);
    setParameters(gpu, { count: part.length, factor: scales.factor });
    if (job.count > piece) upload(gpu, "values", part);
    const kernel = {
      entryPoint: "quantize",
      threads: Math.ceil(part.length / 4),
      groupThreads: 256,
    } as const;
    const result = { name: "result", byteLength: part.length } as const;
    const runs = Math.ceil(part.length / RUN);
    await runKernels(gpu, "FP8", constants, [kernel], runs, result, (bytes, { flagged }) => {
      data.set(new Uint8Array(bytes, 0, part.length), first);
      for (const run of flagged) {
        for (let i = run * RUN; i < Math.min(part.length, (run + 1) * RUN); i++) {
          data[first + i] = e4m3FromFloat(f32(part[i] / scales.factor)); // only the division is ever flagged
        }
      }
      repaired += flagged.length;
    });
  }
  return { data, quantizeScale: scales.quantize, dequantizeScale: scales.dequantize, repaired };
}

/** The two scales of src/quants/fp8.ts, and the number that the kernel is told. */
function scalesOf(ocp: boolean, peak: number): { quantize: number; dequantize: number; factor: number } {
  if (ocp) {
    const scale = peak === 0 ? 1 : f32(peak / 448);
    return { quantize: f32(1 / scale), dequantize: scale, factor: scale };
  }
  const scale = peak === 0 ? 416 : Math.min(f32(416 / peak), 416);
  return { quantize: scale, dequantize: f32(1 / scale), factor: floatFromBfloat(bfloatFromFloat(scale)) };
}

export async function encodeHqq(
  gpu: GpuDevice,
  job: EncodeJob,
  values: Float32Array,
  signal?: AbortSignal,
): Promise<TensorOutcome> {
  const { type, count, algorithm } = job;
  if (4 * count > gpu.mostBytes) return null;
  const groups = count / GROUP;
  const constants = { contiguous: algorithm === "hqq" ? 1 : 0 };
  /** Runs kernels over the groups; the report instead of what `use` gives when the GPU is not enough. */
  const run = <T>(
    entryPoint: "begin" | "move_zeros" | "finish",
    source: { name: "scratch" | "result"; byteOffset?: number; byteLength: number },
    use: (bytes: ArrayBuffer) => T,
  ): Promise<T | null> => {
    const threads = entryPoint === "finish" ? Math.ceil(source.byteLength / 4) : groups;
    const kernel = { entryPoint, threads, groupThreads: entryPoint === "finish" ? 256 : 64 } as const;
    return runKernels(gpu, type, constants, [kernel], groups, source, (part, { nonFinite, flagged }) => {
      if (nonFinite >= 0) bad = nonFinite;
      return nonFinite >= 0 || flagged.length > 0 ? null : use(part);
    });
  };
  let bad = -1;
  gpu.buffer("scratch", 4 * 3 * groups);
  setParameters(gpu, { count, groups });
  upload(gpu, "values", values);
  const begun = await run("begin", { name: "scratch", byteLength: 0 }, () => true);
  if (!begun) return bad >= 0 ? { nonFinite: bad } : null;
  let best = 10000;
  const errors = { name: "scratch", byteOffset: 8 * groups, byteLength: 4 * groups } as const;
  for (let round = 0; round < ROUNDS; round++) {
    checkAborted(signal);
    const error = await run("move_zeros", errors, (bytes) => {
      let total = 0;
      for (const own of new Float32Array(bytes, 0, groups)) total += own;
      return f32(total / count);
    });
    if (error === null) return null;
    if (!(error < best)) break; // the zeros of this last round are kept
    best = error;
  }
  const data = new Uint8Array(dataByteLength(type, [count]));
  const result = { name: "result", byteLength: data.length } as const;
  const coded = await run("finish", result, (bytes) => {
    data.set(new Uint8Array(bytes, 0, data.length));
    return true;
  });
  if (!coded) return null;
  const sides = { name: "scratch", byteLength: 8 * groups } as const;
  const fitted = await runKernels(gpu, type, constants, [], 0, sides, (bytes) =>
    new Float32Array(bytes).slice(),
  );
  const scales = fitted.slice(0, groups).map((s) => f32(1 / s));
  return { data, scales, zeros: fitted.slice(groups, 2 * groups), repaired: 0 };
}
