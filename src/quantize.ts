/**
 * The executor of a plan: reads, quantizes and hands over one tensor at a time, so that the full-precision model is never
 * resident. It decides nothing.
 */

import type { Backend, DenseTensor, Tensor } from "./backends/backend.js";
import { widen } from "./dense.js";
import { checkAborted } from "./errors.js";
import { type TensorError, tensorError } from "./measure.js";
import type { Plan, PlanRow, SourceTensor } from "./plan.js";

/** Where the weights come from: a checkpoint, read by ranges. */
export interface TensorSource {
  /** The tensor's bytes as stored, little-endian. */
  read(name: string): Promise<Uint8Array>;
}

export interface QuantizeProgress {
  readonly done: number;
  readonly total: number;
  readonly row: PlanRow;
}

export interface QuantizeModelOptions {
  readonly importance?: ReadonlyMap<string, Float32Array>;
  /** Decode every result again and report its error; costs a decode per tensor. */
  readonly measureError?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: QuantizeProgress) => void;
}

/** What was done to one tensor. */
export interface TensorReport extends PlanRow {
  /** Super-blocks encoded again without importance; see `reencodedBlocks` of QuantizedTensor. */
  readonly reencodedBlocks: number;
  readonly seconds: number;
  /** Present when asked for, and for quantized tensors only. */
  readonly error?: TensorError;
}

export interface QuantizeReport {
  readonly plan: Plan;
  readonly tensors: readonly TensorReport[];
  readonly seconds: number;
}

/**
 * Follows a plan row by row and passes each finished tensor to `accept`, awaiting it before the next is read. Throws
 * `values/non-finite` naming the tensor and element, `source/*` for unreadable data, `aborted`.
 */
export async function quantizeModel(
  plan: Plan,
  source: TensorSource,
  backend: Backend,
  accept: (row: PlanRow, tensor: Tensor) => Promise<void> | void,
  options: QuantizeModelOptions = {},
): Promise<QuantizeReport> {
  const started = performance.now();
  const tensors: TensorReport[] = [];
  const kept = new Map<string, DenseTensor>();
  const shared = new Set(plan.rows.flatMap((row) => (row.byteLength === 0 ? [row.source.name] : [])));
  for (const row of plan.rows) {
    checkAborted(options.signal);
    const rowStarted = performance.now();
    const dense = kept.get(row.source.name) ?? (await readTensor(source, row.source, row.shape));
    if (row.algorithm === null && shared.has(row.source.name)) kept.set(row.source.name, dense);
    const { tensor, error } = await quantizeRow(row, dense, backend, options);
    await accept(row, tensor);
    tensors.push({
      ...row,
      reencodedBlocks: ("reencodedBlocks" in tensor && tensor.reencodedBlocks) || 0,
      seconds: (performance.now() - rowStarted) / 1000,
      ...(error && { error }),
    });
    options.onProgress?.({ done: tensors.length, total: plan.rows.length, row });
  }
  return { plan, tensors, seconds: (performance.now() - started) / 1000 };
}

async function readTensor(
  source: TensorSource,
  from: SourceTensor,
  shape: readonly number[],
): Promise<DenseTensor> {
  return { type: from.type, shape, data: await source.read(from.name) };
}

async function quantizeRow(
  row: PlanRow,
  dense: DenseTensor,
  backend: Backend,
  options: QuantizeModelOptions,
): Promise<{ tensor: Tensor; error: TensorError | null }> {
  if (row.algorithm === null) return { tensor: dense, error: null };
  const values = widen(dense);
  const importance = row.importance === "used" ? options.importance?.get(row.tensor) : undefined;
  const tensor = await backend.quantize(row.type as Parameters<Backend["quantize"]>[0], values, {
    shape: row.shape,
    algorithm: row.algorithm,
    name: row.tensor,
    ...(importance && { importance }),
  });
  const error = options.measureError ? tensorError(values, await backend.dequantize(tensor)) : null;
  return { tensor, error };
}
