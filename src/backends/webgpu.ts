/**
 * The WebGPU backend (`isq/webgpu`): Dawn in Node, `navigator.gpu` elsewhere. It gives the reference's bytes: what an adapter
 * cannot compute exactly is flagged by the kernels and done by WebAssembly.
 */

import { widen } from "../dense.js";
import { IsqError, isIsqError } from "../errors.js";
import { checkRequest } from "../quants/check.js";
import { quantize as quantizeByReference } from "../quants/index.js";
import type { IsqType } from "../quants/table.js";
import { elementCount, type QuantizedTensor } from "../quants/tensor.js";
import type { Backend, SessionOptions, WorkOptions } from "./backend.js";
import type { Program } from "./program.js";
import { checkParts, isDense } from "./reference-linear.js";
import { Bank } from "./wasm-bank.js";
import { wasmLogits } from "./wasm-logits.js";
import { checkProduct, pickImportance } from "./wasm-parts.js";
import { type AdapterDescription, requestDevice } from "./webgpu-adapter.js";
import { quantizeOnGpu } from "./webgpu-codec.js";
import { decodeOnGpu } from "./webgpu-decode.js";
import { GpuDevice } from "./webgpu-device.js";
import type { EncodeJob } from "./webgpu-encode.js";
import { multiplyOnGpu, placeWeight } from "./webgpu-linear.js";
import { compareProof, makeProof, type ProbeResult, probe } from "./webgpu-probe.js";
import { GpuSession } from "./webgpu-session.js";

/** Which GPU {@link webgpu} takes, and how it is used. */
export interface WebgpuOptions {
  /** An adapter of the caller's, a part of its name, or its number; the runtime's first choice when absent. */
  readonly adapter?: GPUAdapter | string | number;
  /** Quantize on an adapter whose arithmetic is not the contract's, instead of refusing. */
  readonly inexact?: boolean;
  /**
   * Run models with one kernel for each operation, also where the adapter allows fewer. When absent: on a GPU in software,
   * where the barriers of the others take longer.
   */
  readonly plain?: boolean;
  /**
   * Steps that a model runs ahead of their turn when a text takes the likeliest token again and again, so that the GPU is not
   * idle while the host looks at logits. When absent 2, and 0 on a GPU in software. Changes no result.
   */
  readonly ahead?: number;
  /** Elements of a tensor that are worked on at a time, a multiple of 512; 2^24 when absent. Bounds the memory of a call. */
  readonly pieceElements?: number;
}

/** A backend on a GPU, with what is known of the adapter. */
export interface WebgpuBackend extends Backend {
  readonly name: "webgpu";
  readonly adapter: AdapterDescription;
  /** How the adapter's arithmetic did at start-up. */
  readonly probe: ProbeResult;
  /** Bytes of all buffers on the GPU now, and the most there were. */
  readonly memory: { readonly byteLength: number; readonly peakByteLength: number };
  open(program: Program, options: SessionOptions): Promise<GpuSession>;
}

/** Opens a GPU. Throws `backend/unavailable` where there is none. */
export async function webgpu(options: WebgpuOptions = {}): Promise<WebgpuBackend> {
  const { destroyAtExit, openGpu } = await import("#platform"); // when asked for: the platform brings files along
  const pieceElements = checkPiece(options.pieceElements ?? PIECE_ELEMENTS);
  const most = checkAhead(options.ahead ?? 2);
  const { device, description } = await requestDevice(options.adapter, openGpu);
  destroyAtExit(device);
  const ahead = options.ahead ?? (description.isSoftware ? 0 : most);
  const gpu = new GpuDevice(
    device,
    pieceElements,
    (options.plain ?? description.isSoftware) ? { ...description, lanes: 0 } : description,
  );
  const bank = await Bank.open();
  const found = await gpu.exclusively(() => probe(gpu));
  const proven = new Set<string>();
  const sessions = new Set<GpuSession>();

  /** Checks an encoder on its first use; a tolerant adapter is refused. */
  const prove = async (job: EncodeJob) => {
    const { type, algorithm } = job;
    const key = `${type} ${algorithm} ${job.importance !== undefined}`;
    if (options.inexact || proven.has(key)) return;
    if (found.exactness === "tolerant") throw inexact(description.name, found);
    const values = makeProof();
    const width = values.length / 4;
    const importance = job.importance && values.slice(0, width).map((v) => Math.abs(v) + 0.001);
    const shape = [4, width];
    const proof = { type, algorithm, count: values.length, width, ...(importance && { importance }) };
    const actual = await quantizeOnGpu(gpu, bank, proof, values, { shape });
    const wanted = quantizeByReference(type, values, { shape, algorithm, ...(importance && { importance }) });
    compareProof(actual, wanted, description.name);
    proven.add(key);
  };

  return {
    name: "webgpu",
    logitKernels: wasmLogits(bank),
    adapter: description,
    probe: found,
    async quantize(type, values, work) {
      const { row, algorithm, width, count, nonFinite } = checkRequest(type, values, work);
      const job = { type: row.name, algorithm, count, width, ...pickImportance(work) };
      return gpu.exclusively(async () => {
        await prove(job);
        return quantizeOrRaw(gpu, bank, job, values, { ...work, nonFinite });
      });
    },
    async dequantize(tensor) {
      gpu.check();
      checkParts(tensor);
      if (isDense(tensor)) return widen(tensor);
      const out = new Float32Array(elementCount(tensor.shape));
      await gpu.exclusively(() => decodeOnGpu(gpu, bank, tensor, out));
      return out;
    },
    async matmul(weights, activations) {
      gpu.check();
      const { rows, outputs } = checkProduct(weights, activations);
      if (rows * outputs === 0) return new Float32Array(0);
      return gpu.exclusively(async () => {
        const placed = await placeWeight(gpu, weights);
        try {
          return await multiplyOnGpu(gpu, placed, activations, rows);
        } finally {
          gpu.free(placed.buffer);
        }
      });
    },
    async open(program, sessionOptions) {
      gpu.check();
      const session: GpuSession = new GpuSession(gpu, program, { ...sessionOptions, ahead }, () =>
        sessions.delete(session),
      );
      sessions.add(session);
      return session;
    },
    get memory() {
      return gpu.memory;
    },
    dispose() {
      for (const session of sessions) session.dispose();
      gpu.dispose();
    },
  };
}

/** Values of 64 MiB: with codes and results they fit every adapter's buffers. */
const PIECE_ELEMENTS = 2 ** 24;
const PIECE_GRAIN = 512;

/** Throws `option/invalid`. */
function checkPiece(elements: number): number {
  if (Number.isInteger(elements) && elements > 0 && elements % PIECE_GRAIN === 0) return elements;
  const message = `pieceElements must be a multiple of ${PIECE_GRAIN}, not ${elements}`;
  throw new IsqError("option/invalid", message, {
    field: "pieceElements",
    value: elements,
    limit: PIECE_GRAIN,
  });
}

const MOST_AHEAD = 8;

/** Throws `option/invalid`. */
function checkAhead(steps: number): number {
  if (Number.isInteger(steps) && steps >= 0 && steps <= MOST_AHEAD) return steps;
  throw new IsqError("option/invalid", `ahead must be an integer from 0 to ${MOST_AHEAD}, not ${steps}`, {
    field: "ahead",
    value: steps,
    limit: MOST_AHEAD,
  });
}

/** What `nonFinite: "raw"` asks for is the reference's rule. */
async function quantizeOrRaw(
  gpu: GpuDevice,
  bank: Bank,
  job: EncodeJob,
  values: Float32Array,
  work: WorkOptions,
): Promise<QuantizedTensor> {
  try {
    return await quantizeOnGpu(gpu, bank, job, values, work);
  } catch (error) {
    if (work.nonFinite !== "raw" || !isIsqError(error, "values/non-finite")) throw error;
    return quantizeByReference(job.type as IsqType, values, work);
  }
}

function inexact(adapter: string, { mismatches }: ProbeResult): IsqError {
  const message = `the arithmetic of ${adapter} is not the contract's (${Object.keys(mismatches).join(", ")}); quantize on wasm, or pass inexact: true`;
  return new IsqError("backend/inexact", message, { field: "adapter", value: adapter, mismatches });
}
