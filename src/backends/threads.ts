/**
 * The threads backend (`isq/threads`): WebAssembly kernels on one Piscina pool. Every call is a team of all workers that
 * divide rows or tiles among themselves through shared memory; steps of a model meet at barriers, not in messages.
 */

import { IsqError } from "../errors.js";
import { openPool, type Pool } from "../node/pool.js";
import { checkRequest } from "../quants/check.js";
import { quantize as quantizeByReference } from "../quants/index.js";
import type { IsqType } from "../quants/table.js";
import { dataByteLength, elementCount, type QuantizedTensor } from "../quants/tensor.js";
import type { Backend, DenseTensor, FileTensor, Session, WorkOptions } from "./backend.js";
import { checkParts } from "./reference-linear.js";
import { sharedBytes, sharedFloats, sharedWords, shareFloats, shareTensor } from "./shared.js";
import { openThreadSession } from "./threads-session.js";
import { checkMemoryLimit, checkProduct, finishTensor, pickImportance, sideArrays } from "./wasm.js";
import { MOST_BANK_BYTES } from "./wasm-bank.js";
import { newBadTile, refusalOf } from "./wasm-encode.js";

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
  const pool = await openPool(options.workers);
  const sessions = new Set<Session>();
  const open = (): Pool => {
    if (pool.isOpen) return pool;
    throw new IsqError("backend/disposed", "the threads backend was disposed");
  };
  return {
    name: "threads",
    workers: pool.members,
    async quantize(type, values, quantizeOptions) {
      return quantize(open(), type, values, quantizeOptions);
    },
    quantizeFile: async (type, file, quantizeOptions) => quantizeFile(open(), type, file, quantizeOptions),
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
      const session = await openThreadSession(open(), program, {
        ...sessionOptions,
        memoryByteLength,
        workerByteLength,
      });
      sessions.add(session);
      return session;
    },
    async dispose() {
      await pool.close();
      sessions.clear();
    },
  };
}

async function quantize(
  pool: Pool,
  type: IsqType,
  values: Float32Array,
  options: WorkOptions,
): Promise<QuantizedTensor> {
  const request = checkRequest(type, values, options);
  const made = await encodeTogether(pool, request, shareFloats(values), options);
  if (!(made instanceof IsqError)) return ownedTensor(made);
  if (request.nonFinite === "raw") return quantizeByReference(type, values, options);
  throw made;
}

/** As `quantize`, of values that the workers read from a file; the result is in shared memory. */
async function quantizeFile(
  pool: Pool,
  type: IsqType,
  file: FileTensor,
  options: WorkOptions,
): Promise<QuantizedTensor> {
  const request = checkRequest(type, null, options);
  const made = await encodeTogether(pool, request, file, options);
  if (made instanceof IsqError) throw made;
  return made;
}

/** The tensor, or the refusal of its first non-finite value. */
async function encodeTogether(
  pool: Pool,
  { row, algorithm, width, count }: ReturnType<typeof checkRequest>,
  values: Float32Array | FileTensor,
  options: WorkOptions,
): Promise<QuantizedTensor | IsqError> {
  const job = { type: row.name, algorithm, count, width, ...pickImportance(options) };
  const data = sharedBytes(dataByteLength(row.name, options.shape));
  const { votes, ...sides } = sideArrays(row.name, count, pool.members, sharedFloats);
  const bad = newBadTile(sharedWords(1));
  const out = { data, ...sides, ...(votes && { votes }), bad };
  const results = await pool.together({ kind: "encode", job, values, out }, options.signal);
  const refusal = refusalOf(results, options.name);
  if (refusal) return refusal;
  return finishTensor(
    row.name,
    algorithm,
    options.shape,
    { data, ...sides },
    results.map((result) => result!),
  );
}

async function readFile(pool: Pool, file: FileTensor, signal?: AbortSignal): Promise<DenseTensor> {
  const { type, shape } = file;
  const data = sharedBytes(elementCount(shape) * (type === "F32" ? 4 : 2));
  await pool.together({ kind: "read", file, out: data }, signal);
  return { type, shape, data };
}

/** Callers get memory of their own: shared memory is refused by some functions of the platform. */
function ownedTensor(tensor: QuantizedTensor): QuantizedTensor {
  const { data, scales, zeros } = tensor;
  return {
    ...tensor,
    data: data.slice(),
    ...(scales && { scales: scales.slice() }),
    ...(zeros && { zeros: zeros.slice() }),
  };
}
