/** Encoding block types on the GPU, piece by piece. */

import { checkAborted } from "../errors.js";
import { type Algorithm, type IsqType, TYPES } from "../quants/table.js";
import type { GpuDevice } from "./webgpu-device.js";
import { type Kernel, type Report, runKernels, setParameters, upload } from "./webgpu-run.js";

const UNIT_WORDS = 4;
const HEAD_WORDS = 10;

export interface EncodeJob {
  readonly type: IsqType;
  readonly algorithm: Algorithm;
  /** Elements of the whole tensor, and of a row. */
  readonly count: number;
  readonly width: number;
  readonly importance?: Float32Array;
}

/** Most elements of a piece whose values must be in one buffer. */
export function pieceElements(gpu: GpuDevice): number {
  return Math.min(gpu.pieceElements, Math.floor(gpu.mostBytes / 4));
}

export function constantsOf({ algorithm, importance }: EncodeJob): Record<string, number> {
  return { mistralrs: algorithm === "mistralrs" ? 1 : 0, weighted: importance ? 1 : 0 };
}

/**
 * Calls `use` with the bytes, the first element and the report of every piece, in order. Stops after a piece with a
 * non-finite value, and returns that value's index, or -1.
 */
export async function encodeBlocks(
  gpu: GpuDevice,
  job: EncodeJob,
  values: Float32Array,
  use: (bytes: Uint8Array, first: number, report: Report) => void,
  signal?: AbortSignal,
): Promise<number> {
  const unit = job.importance ? job.width : 2 * TYPES[job.type].blockElements; // two blocks are whole words in every type
  const piece = Math.max(unit, Math.floor(pieceElements(gpu) / unit) * unit);
  if (job.importance) upload(gpu, "words", job.importance);
  for (let first = 0; first < job.count; first += piece) {
    checkAborted(signal);
    const part = values.subarray(first, Math.min(job.count, first + piece));
    const nonFinite = await encodePiece(gpu, job, part, (bytes, report) => use(bytes, first, report));
    if (nonFinite >= 0) return first + nonFinite;
  }
  return -1;
}

async function encodePiece(
  gpu: GpuDevice,
  job: EncodeJob,
  values: Float32Array,
  use: (bytes: Uint8Array, report: Report) => void,
): Promise<number> {
  const { blockElements, blockBytes } = TYPES[job.type];
  const blocks = values.length / blockElements;
  const { kernels, scratchWords, ...places } = planOf(job, values.length);
  gpu.buffer("scratch", 4 * scratchWords);
  setParameters(gpu, { count: values.length, width: job.width, ...places });
  upload(gpu, "values", values);
  const result = { name: "result", byteLength: blocks * blockBytes } as const;
  return runKernels(gpu, job.type, constantsOf(job), kernels, blocks, result, (bytes, report) => {
    use(new Uint8Array(bytes, 0, result.byteLength), report);
    return report.nonFinite;
  });
}

/** The kernels of a job, in order, and where in `scratch` they keep what. */
export function planOf({ type, width, importance }: EncodeJob, count: number) {
  const { blockElements } = TYPES[type];
  const superBlock = blockElements === 256;
  const settles = superBlock && type !== "Q8K";
  const units = count / (type === "Q2K" || type === "Q3K" || type === "Q6K" ? 16 : 32);
  const runLength = superBlock ? 256 : width;
  const codesAt = UNIT_WORDS * units;
  const headsAt = codesAt + count / 4;
  const runsAt = headsAt + (settles ? HEAD_WORDS * (count / blockElements) : 0);
  const places = { runLength, codesAt, headsAt, runsAt };
  const kernel = (entryPoint: string, threads: number, groupThreads: 64 | 256 = 64): Kernel => ({
    entryPoint,
    threads,
    groupThreads,
  });
  if (!settles && !importance) {
    return { kernels: [kernel("quantize", count / 4, 256)], scratchWords: 0, ...places };
  }
  const kernels = [kernel("search", units), kernel("assemble", count / 4, 256)];
  if (settles) kernels.splice(1, 0, kernel("settle", count / blockElements));
  if (importance) kernels.unshift(kernel("sum_squares", count / runLength));
  return { kernels, scratchWords: runsAt + (importance ? count / runLength : 0), ...places };
}
