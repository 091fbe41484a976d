/** Running kernels on the kept buffers: parameters in, dispatches, results and report out. */

import { type BufferName, dispatch, type GpuDevice, PARAMETER_WORDS } from "./webgpu-device.js";
import type { ModuleName } from "./webgpu-modules.js";

/** Fields of struct Parameters in gpu/parameters.wgsl, by name. */
export interface Parameters {
  readonly count: number;
  readonly width?: number;
  readonly runLength?: number;
  readonly codesAt?: number;
  readonly headsAt?: number;
  readonly runsAt?: number;
  readonly groups?: number;
  readonly first?: number;
  /** A binary32 number. */
  readonly factor?: number;
  readonly blocks?: number;
  readonly outputs?: number;
  readonly rows?: number;
  readonly outAt?: number;
  readonly xAt?: number;
  readonly chosenAt?: number;
  readonly expert?: number;
  readonly share?: number;
  /** A binary32 number. */
  readonly gain?: number;
}

export interface Kernel {
  readonly entryPoint: string;
  readonly threads: number;
  readonly groupThreads: 64 | 256;
}

/** What kernels say beside their result. */
export interface Report {
  /** The first non-finite element of the piece, or -1. */
  readonly nonFinite: number;
  /** Word 1: not 0 when units are flagged; FP8's peak after `find_peak`. */
  readonly word: number;
  /** Units (blocks, groups, runs) whose arithmetic left the normal numbers, ascending. */
  readonly flagged: readonly number[];
}

const HEAD_WORDS = 2;
const factors = new Float32Array(2);
const factorBits = new Uint32Array(factors.buffer);

/** The words of struct Parameters. */
export function parameterWords(parameters: Parameters): Uint32Array<ArrayBuffer> {
  const { count, width = 0, runLength = 0, codesAt = 0, headsAt = 0, runsAt = 0, groups = 0 } = parameters;
  const { first = 0, factor = 0, blocks = 0, outputs = 0, rows = 0 } = parameters;
  const { outAt = 0, xAt = 0, chosenAt = 0, expert = 0, share = 0, gain = 1 } = parameters;
  factors.set([factor, gain]);
  const words = new Uint32Array(PARAMETER_WORDS);
  words.set([0, count, width, runLength, codesAt, headsAt, runsAt, groups, first, factorBits[0]]);
  words.set([blocks, outputs, rows, outAt, xAt, chosenAt, expert, share, factorBits[1]], 10);
  return words;
}

export function setParameters(gpu: GpuDevice, parameters: Parameters): void {
  const words = parameterWords(parameters);
  gpu.device.queue.writeBuffer(gpu.buffer("parameters", words.byteLength), 0, words);
}

/** Writes an array to a kept buffer. */
export function upload(gpu: GpuDevice, name: BufferName, data: ArrayBufferView, byteOffset = 0): void {
  writeWhole(gpu, gpu.buffer(name, byteOffset + Math.ceil(data.byteLength / 4) * 4), data, byteOffset);
}

/** Writes an array whose length need not be whole words. */
export function writeWhole(gpu: GpuDevice, buffer: GPUBuffer, array: ArrayBufferView, byteOffset = 0): void {
  const { queue } = gpu.device;
  const data = unshared(array);
  const whole = Math.floor(data.byteLength / 4) * 4;
  queue.writeBuffer(buffer, byteOffset, data.buffer as ArrayBuffer, data.byteOffset, whole);
  if (whole === data.byteLength) return;
  const end = new Uint8Array(4);
  end.set(new Uint8Array(data.buffer, data.byteOffset + whole, data.byteLength - whole));
  queue.writeBuffer(buffer, byteOffset + whole, end);
}

/** The array, or a copy of one in shared memory, which WebGPU does not take: worker threads give such results. */
function unshared(array: ArrayBufferView): ArrayBufferView {
  if (array.buffer instanceof ArrayBuffer) return array;
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength).slice();
}

/**
 * Runs kernels of a type one after the other on a cleared report, and hands `use` the first bytes of `source` (none when
 * there is no such buffer to read) and the report for `units` units.
 */
export async function runKernels<T>(
  gpu: GpuDevice,
  type: ModuleName,
  constants: Readonly<Record<string, number>>,
  kernels: readonly Kernel[],
  units: number,
  source: { readonly name: BufferName; readonly byteOffset?: number; readonly byteLength: number },
  use: (bytes: ArrayBuffer, report: Report) => T,
): Promise<T> {
  const reportBytes = 4 * (HEAD_WORDS + Math.ceil(units / 32));
  const report = gpu.buffer("report", reportBytes);
  const { name, byteOffset = 0, byteLength } = source;
  const buffer = gpu.buffer(name, byteOffset + byteLength);
  const pipelines = await Promise.all(
    kernels.map(({ entryPoint }) => gpu.pipeline({ type, entryPoint, constants })),
  );
  const encoder = gpu.device.createCommandEncoder();
  encoder.clearBuffer(report, 0, reportBytes);
  const pass = encoder.beginComputePass();
  pass.setBindGroup(0, gpu.bindKept());
  for (const [i, { threads, groupThreads }] of kernels.entries()) {
    pass.setPipeline(pipelines[i]);
    dispatch(pass, threads, groupThreads);
  }
  pass.end();
  const ranges = [
    { buffer, byteOffset, byteLength },
    { buffer: report, byteOffset: 0, byteLength: reportBytes },
  ];
  return gpu.read(encoder, ranges, ([bytes, words]) => use(bytes, readReport(new Uint32Array(words), units)));
}

function readReport(words: Uint32Array, units: number): Report {
  const nonFinite = words[0] === 0 ? -1 : ~words[0] >>> 0;
  const flagged: number[] = [];
  for (let w = 0; w < Math.ceil(units / 32); w++) {
    let bits = words[HEAD_WORDS + w];
    while (bits !== 0) {
      flagged.push(32 * w + 31 - Math.clz32(bits & -bits));
      bits &= bits - 1;
    }
  }
  return { nonFinite, word: words[1], flagged };
}
