/**
 * The executor of a plan: reads, quantizes and hands over one tensor at a time, so that the full-precision model is never
 * resident. It decides nothing.
 */

import type { Backend, FileTensor, Tensor } from "./backends/backend.js";
import { isDense, widen } from "./dense.js";
import { checkAborted } from "./errors.js";
import type { FilePlace, QuantizedSides } from "./files/checkpoint.js";
import type { Plan, PlanRow, SourceTensor } from "./plan.js";
import { TYPES } from "./quants/table.js";
import { rowElements } from "./quants/tensor.js";
import { type ErrorLayout, type TensorError, tensorError } from "./tensor-error.js";

/** Where the weights come from: a checkpoint, read by ranges. */
export interface TensorSource {
  /** The tensor's bytes as stored, little-endian. */
  read(name: string): Promise<Uint8Array>;
  /** What belongs to a quantized tensor beside its bytes; absent: block types have all in their blocks. */
  readSides?(name: string): Promise<QuantizedSides>;
  /** Where the tensor lies in a file that other threads can open; null or absent: only `read` can have it. */
  locate?(name: string): FilePlace | null;
}

/** How far quantizing is, in tensors. */
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
  /** Called after every tensor. */
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

/** What was done to each tensor of a plan. */
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
  plan: Pick<Plan, "rows">,
  source: TensorSource,
  backend: Backend,
  options: QuantizeModelOptions,
): (row: PlanRow) => Promise<{ tensor: Tensor; error?: TensorError }> {
  const kept = new Map<string, Tensor>();
  const shared = new Set(plan.rows.flatMap((row) => (row.byteLength === 0 ? [row.source.name] : [])));
  const read = async (row: PlanRow): Promise<Tensor> => {
    const known = kept.get(row.source.name);
    if (known) return known;
    const file = locateRow(source, row, backend);
    const stored =
      file && backend.readFile ? await backend.readFile(file, options.signal) : await readTensor(source, row);
    if (row.algorithm === null && shared.has(row.source.name)) kept.set(row.source.name, stored);
    return stored;
  };
  return async (row) => {
    if (row.algorithm === null) return { tensor: await read(row) };
    const file = locateRow(source, row, backend);
    const type = row.type as Parameters<Backend["quantize"]>[0];
    const quantizeOptions = quantizeOptionsOf(row, options);
    if (file && backend.quantizeFile && !options.measureError) {
      return { tensor: await backend.quantizeFile(type, file, quantizeOptions) };
    }
    const stored = await read(row);
    const values = "algorithm" in stored ? await backend.dequantize(stored) : widen(stored);
    const tensor = await backend.quantize(type, values, quantizeOptions);
    if (!options.measureError) return { tensor };
    return {
      tensor,
      error: tensorError(values, await backend.dequantize(tensor), errorLayout(row, options)),
    };
  };
}

/** How a row's error is counted. Importance counts also where its type has no use for it. */
function errorLayout({ shape, type, tensor }: PlanRow, { importance }: QuantizeModelOptions): ErrorLayout {
  const columns = rowElements(shape);
  const row = isDense(type) ? null : TYPES[type];
  const own = importance?.get(tensor);
  return {
    columns,
    ...(row?.family === "block" && { blockColumns: row.blockElements }),
    ...(own?.length === columns && { importance: own }),
  };
}

async function readTensor(source: TensorSource, row: PlanRow): Promise<Tensor> {
  return storedTensor(row.source, row.shape, await source.read(row.source.name), source);
}

/** Stored bytes as a tensor: the whole, or rows of it where the type has no side values. */
export async function storedTensor(
  { name, type, algorithm }: SourceTensor,
  shape: readonly number[],
  data: Uint8Array,
  source: TensorSource,
): Promise<Tensor> {
  if (isDense(type)) return { type, shape, data };
  const { family, algorithms } = TYPES[type];
  // Decoding blocks does not ask which encoder filled them.
  const stored = { type, algorithm: algorithm ?? algorithms[0], shape, data };
  return family === "block" || !source.readSides ? stored : { ...stored, ...(await source.readSides(name)) };
}

/** A row's source as the workers of a backend can read it, where they can. */
export function locateRow(
  source: TensorSource,
  { source: from, shape }: PlanRow,
  { readsBlobs = false }: Pick<Backend, "readsBlobs">,
): FileTensor | null {
  if (!isDense(from.type)) return null;
  const place = source.locate?.(from.name);
  return place && (place.blob !== undefined) === readsBlobs ? { ...place, type: from.type, shape } : null;
}

/** What a backend is told about a row. */
export function quantizeOptionsOf(row: PlanRow, { importance, signal }: QuantizeModelOptions) {
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
