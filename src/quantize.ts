/**
 * The executor of a plan: reads, quantizes and hands over one tensor at a time, so that the full-precision model is never
 * resident. It decides nothing.
 */

import type { Backend, DenseTensor, FileTensor, Tensor } from "./backends/backend.js";
import { widen } from "./dense.js";
import { checkAborted } from "./errors.js";
import { type TensorError, tensorError } from "./measure.js";
import type { Plan, PlanRow } from "./plan.js";

/** Where the weights come from: a checkpoint, read by ranges. */
export interface TensorSource {
  /** The tensor's bytes as stored, little-endian. */
  read(name: string): Promise<Uint8Array>;
  /** Where the tensor lies in a plain file that other threads can open; null or absent: only `read` can have it. */
  locate?(name: string): { readonly path: string; readonly byteOffset: number } | null;
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

/** What performing one row says about it. */
export interface RowOutcome {
  readonly reencodedBlocks: number;
  readonly error?: TensorError;
}

/** Performs the rows of a plan one after the other. Throws what `perform` throws, and `aborted`. */
export async function executePlan(
  plan: Plan,
  perform: (row: PlanRow) => Promise<RowOutcome>,
  { signal, onProgress }: QuantizeModelOptions,
): Promise<QuantizeReport> {
  const started = performance.now();
  const tensors: TensorReport[] = [];
  for (const row of plan.rows) {
    checkAborted(signal);
    const rowStarted = performance.now();
    const outcome = await perform(row);
    tensors.push({ ...row, ...outcome, seconds: (performance.now() - rowStarted) / 1000 });
    onProgress?.({ done: tensors.length, total: plan.rows.length, row });
  }
  return { plan, tensors, seconds: (performance.now() - started) / 1000 };
}

/**
 * Follows a plan row by row and passes each finished tensor to `accept`, awaiting it before the next is read. Throws
 * `values/non-finite` naming the tensor and element, `source/*` for unreadable data, `aborted`.
 */
export function quantizeModel(
  plan: Plan,
  source: TensorSource,
  backend: Backend,
  accept: (row: PlanRow, tensor: Tensor) => Promise<void> | void,
  options: QuantizeModelOptions = {},
): Promise<QuantizeReport> {
  const makeRow = createRowMaker(plan, source, backend, options);
  const perform = async (row: PlanRow): Promise<RowOutcome> => {
    const { tensor, error } = await makeRow(row);
    await accept(row, tensor);
    const reencodedBlocks = ("reencodedBlocks" in tensor && tensor.reencodedBlocks) || 0;
    return { reencodedBlocks, ...(error && { error }) };
  };
  return executePlan(plan, perform, options);
}

/** Makes the tensors of rows, one at a time, by whatever way the backend has: workers that read, or values in memory. */
export function createRowMaker(
  plan: Plan,
  source: TensorSource,
  backend: Backend,
  options: QuantizeModelOptions,
): (row: PlanRow) => Promise<{ tensor: Tensor; error?: TensorError }> {
  const kept = new Map<string, DenseTensor>();
  const shared = new Set(plan.rows.flatMap((row) => (row.byteLength === 0 ? [row.source.name] : [])));
  const read = async (row: PlanRow): Promise<DenseTensor> => {
    const known = kept.get(row.source.name);
    if (known) return known;
    const file = locateRow(source, row);
    const { type, name } = row.source;
    const dense =
      file && backend.readFile
        ? await backend.readFile(file, options.signal)
        : { type, shape: row.shape, data: await source.read(name) };
    if (row.algorithm === null && shared.has(name)) kept.set(name, dense);
    return dense;
  };
  return async (row) => {
    if (row.algorithm === null) return { tensor: await read(row) };
    const file = locateRow(source, row);
    const type = row.type as Parameters<Backend["quantize"]>[0];
    const quantizeOptions = quantizeOptionsOf(row, options);
    if (file && backend.quantizeFile && !options.measureError) {
      return { tensor: await backend.quantizeFile(type, file, quantizeOptions) };
    }
    const values = widen(await read(row));
    const tensor = await backend.quantize(type, values, quantizeOptions);
    if (!options.measureError) return { tensor };
    return { tensor, error: tensorError(values, await backend.dequantize(tensor)) };
  };
}

/** A row's source as workers can read it, where they can. */
export function locateRow(source: TensorSource, row: PlanRow): FileTensor | null {
  const place = source.locate?.(row.source.name);
  return place ? { ...place, type: row.source.type, shape: row.shape } : null;
}

function quantizeOptionsOf(row: PlanRow, { importance, signal }: QuantizeModelOptions) {
  const own = importanceOf(row, importance);
  return {
    shape: row.shape,
    name: row.tensor,
    ...(row.algorithm && { algorithm: row.algorithm }),
    ...(own && { importance: own }),
    ...(signal && { signal }),
  };
}

/** The importance that a row is to be quantized with. */
export function importanceOf(
  row: PlanRow,
  importance: ReadonlyMap<string, Float32Array> | undefined,
): Float32Array | undefined {
  return row.importance === "used" ? importance?.get(row.tensor) : undefined;
}
