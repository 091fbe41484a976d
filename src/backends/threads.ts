/**
 * The threads backend (`isq/threads`): WebAssembly kernels on one Piscina pool. Every call is a team of all workers that
 * divide rows or tiles among themselves through shared memory; steps of a model meet at barriers, not in messages.
 */

import { IsqError } from "../errors.js";
import { elementCount } from "../quants/tensor.js";
import type { Backend, DenseTensor, FileTensor } from "./backend.js";
import { openPool, type Pool } from "./pool.js";
import { checkParts } from "./reference-linear.js";
import { Staging, sharedBytes, sharedFloats, shareFloats, shareTensor } from "./shared.js";
import { encodeFile, encodeValues } from "./threads-encode.js";
import { openThreadSession } from "./threads-session.js";
import { Bank, MOST_BANK_BYTES } from "./wasm-bank.js";
import { wasmLogits } from "./wasm-logits.js";
import { checkMemoryLimit, checkProduct } from "./wasm-parts.js";

/** How many workers {@link threads} starts, and what each may hold. */
export interface ThreadsOptions {
  /** Worker threads; as many as the machine has processors when absent. */
  readonly workers?: number;
  /** Most bytes of one WebAssembly memory. A worker opens another one when it is full. 4 GiB when absent. */
  readonly memoryByteLength?: number;
  /** Most bytes of all WebAssembly memories of one worker that belong to one model; no limit when absent. */
  readonly workerByteLength?: number;
}

/** The backend with what only threads can do. */
export interface ThreadsBackend extends Backend {
  readonly name: "threads";
  readonly workers: number;
}

/** Starts the workers. Throws `option/invalid`, `backend/unavailable`. */
export async function threads(options: ThreadsOptions = {}): Promise<ThreadsBackend> {
  const memoryByteLength = checkMemoryLimit(options.memoryByteLength ?? MOST_BANK_BYTES);
  const workerByteLength = options.workerByteLength ?? Number.POSITIVE_INFINITY;
  const { openCrew } = await import("#platform");
  const pool = await openPool(await openCrew(options.workers));
  const logitKernels = wasmLogits(await Bank.open());
  const staging = new Staging();
  const open = (): Pool => {
    if (pool.isOpen) return pool;
    throw new IsqError("backend/disposed", "the threads backend was disposed");
  };
  return {
    name: "threads",
    workers: pool.members,
    readsBlobs: pool.readsBlobs,
    logitKernels,
    async quantize(type, values, quantizeOptions) {
      return encodeValues({ pool: open(), staging }, type, values, quantizeOptions);
    },
    quantizeFile: async (type, file, quantizeOptions) => encodeFile(open(), type, file, quantizeOptions),
    readFile: async (file, signal) => readFile(open(), file, signal),
    async dequantize(tensor) {
      open();
      checkParts(tensor);
      const out = sharedFloats(elementCount(tensor.shape));
      await pool.together({ kind: "decode", tensor: shareTensor(tensor), out });
      return out.slice();
    },
    async matmul(weights, activations) {
      open();
      const { rows, outputs } = checkProduct(weights, activations);
      if (rows * outputs === 0) return new Float32Array(0);
      const out = sharedFloats(rows * outputs);
      const shared = { weights: shareTensor(weights), activations: shareFloats(activations) };
      await pool.together({ kind: "multiply", ...shared, rows, out });
      return out.slice();
    },
    async open(program, sessionOptions) {
      const limits = { memoryByteLength, workerByteLength };
      return openThreadSession({ pool: open(), staging }, program, { ...sessionOptions, ...limits });
    },
    dispose: () => pool.close(),
  };
}

async function readFile(pool: Pool, file: FileTensor, signal?: AbortSignal): Promise<DenseTensor> {
  const { type, shape } = file;
  const data = sharedBytes(elementCount(shape) * (type === "F32" ? 4 : 2));
  await pool.together({ kind: "read", file, out: data }, signal);
  return { type, shape, data };
}
