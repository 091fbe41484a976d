/**
 * Saving: a plan is executed into a file that is laid out beforehand, some rows of a tensor at a time, so that memory does not
 * grow with the model. The file's bytes depend on the plan and the source alone.
 */

import type { Backend, Tensor } from "./backends/backend.js";
import { isDense, widen } from "./dense.js";
import { isIsqError } from "./errors.js";
import type { ByteSink } from "./files/gguf-write.js";
import type { Plan, PlanRow } from "./plan.js";
import {
  executePlan,
  locateRow,
  type QuantizeModelOptions,
  type QuantizeReport,
  quantizeOptionsOf,
  type RowOutcome,
  storedTensor,
  type TensorSource,
} from "./quantize.js";
import { type IsqType, TYPES } from "./quants/table.js";
import { elementCount, nonFiniteError } from "./quants/tensor.js";

/** Where (a part of) a tensor goes. */
export interface SaveTarget {
  readonly byteOffset: number;
  readonly byteLength: number;
  /** Rows (of the first dimension) that have to be made together: 1, those of a head, or 0 for all. */
  readonly rowGroup: number;
  /** The bytes of a tensor, or of some whole groups of its rows. Throws `gguf/type` for another type than planned. */
  make(tensor: Tensor): Uint8Array;
}

/** A file before its tensors exist. */
export interface SaveFile {
  readonly format: "gguf" | "safetensors" | "uqff" | "bytes";
  /** Of the whole file. */
  readonly byteLength: number;
  /** What the plan alone decides: header, padding, tensors that no checkpoint has. */
  readonly fixed: readonly { readonly byteOffset: number; readonly bytes: Uint8Array }[];
  /** By the tensor's name in the plan. A tensor may go to several places. */
  readonly targets: ReadonlyMap<string, readonly SaveTarget[]>;
}

/** Takes the file. Tensors that it has from an earlier run are left out. */
export interface SaveSink extends ByteSink {
  /** Whether all bytes of a tensor are there already; absent: none are. */
  has?(tensor: string): boolean;
  /** Every byte of a tensor was written. */
  finish?(tensor: string): Promise<void> | void;
}

/** A checkpoint that can be read in parts. */
export interface RangeSource extends TensorSource {
  /** Bytes `start` to `end` of a tensor as stored. */
  readRange(name: string, start: number, end: number): Promise<Uint8Array>;
}

export interface SaveOptions extends Pick<QuantizeModelOptions, "importance" | "signal" | "onProgress"> {
  /** Elements that are in memory as binary32 at once, where rows are shorter; 16 MB of them when absent. */
  readonly chunkElements?: number;
}

const CHUNK_ELEMENTS = 2 ** 22;

/**
 * Executes a plan into a file. Throws `values/non-finite` naming the tensor and element, `source/*`, `aborted`, and whatever
 * the sink throws.
 */
export async function saveModel(
  file: SaveFile,
  plan: Plan,
  source: RangeSource,
  backend: Backend,
  sink: SaveSink,
  options: SaveOptions = {},
): Promise<QuantizeReport> {
  for (const { byteOffset, bytes } of file.fixed) await sink.write(byteOffset, bytes);
  const rows = plan.rows.filter(({ tensor }) => file.targets.has(tensor) && !sink.has?.(tensor));
  const perform = async (row: PlanRow): Promise<RowOutcome> => {
    const targets = file.targets.get(row.tensor)!;
    let reencodedBlocks = 0;
    for (const [start, end] of rowChunks(row, targets, options.chunkElements)) {
      const tensor = await makeRows(row, start, end, source, backend, options);
      reencodedBlocks += ("reencodedBlocks" in tensor && tensor.reencodedBlocks) || 0;
      for (const target of targets) {
        const byteOffset = target.byteOffset + (target.byteLength / row.shape[0]) * start;
        await sink.write(byteOffset, target.make(tensor));
      }
    }
    await sink.finish?.(row.tensor);
    return { reencodedBlocks };
  };
  return executePlan({ ...plan, rows }, perform, options);
}

/** Bytes at the worst moment of saving: what one chunk of rows takes as stored, as binary32 and as result. */
export function savePeakByteLength(file: SaveFile, plan: Plan): number {
  const peak = (row: PlanRow): number => {
    const targets = file.targets.get(row.tensor);
    if (!targets) return 0;
    const [[start, end]] = rowChunks(row, targets);
    const share = (end - start) / row.shape[0];
    const values = row.algorithm === null ? 0 : 4 * elementCount(row.shape);
    return Math.ceil(share * (row.sourceByteLength + values + 2 * targets[0].byteLength));
  };
  return Math.max(0, ...plan.rows.map(peak));
}

/** Runs of rows that are made at once, in order. */
function rowChunks(
  { shape, type, source }: PlanRow,
  targets: readonly SaveTarget[],
  chunkElements = CHUNK_ELEMENTS,
): [number, number][] {
  const [rows] = shape;
  const whole =
    shape.length < 2 ||
    targets.some(({ rowGroup }) => rowGroup === 0) ||
    ![type, source.type].every((name) => isDense(name) || TYPES[name].family === "block"); // one scale for all
  if (whole) return [[0, rows]];
  const group = targets.reduce((all, { rowGroup }) => leastMultiple(all, rowGroup), 1);
  const wanted = Math.floor(chunkElements / (elementCount(shape) / rows));
  const step = Math.max(group, wanted - (wanted % group));
  const chunks: [number, number][] = [];
  for (let start = 0; start < rows; start += step) chunks.push([start, Math.min(rows, start + step)]);
  return chunks;
}

function leastMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

/** Rows `start` to `end` of what a row of the plan asks for. */
async function makeRows(
  row: PlanRow,
  start: number,
  end: number,
  source: RangeSource,
  backend: Backend,
  options: SaveOptions,
): Promise<Tensor> {
  const [rows, ...rest] = row.shape;
  const shape = [end - start, ...rest];
  const { name } = row.source;
  const rowBytes = row.sourceByteLength / rows;
  const read = async () => {
    const whole = end - start === rows;
    const data = whole ? source.read(name) : source.readRange(name, start * rowBytes, end * rowBytes);
    return storedTensor(row.source, shape, await data, source);
  };
  if (row.algorithm === null) return read();
  const wanted = row.type as IsqType;
  const quantizeOptions = { ...quantizeOptionsOf(row, options), shape };
  try {
    const file = backend.quantizeFile ? locateRow(source, row, backend) : null;
    if (file) {
      const byteOffset = file.byteOffset + start * rowBytes;
      return await backend.quantizeFile!(wanted, { ...file, byteOffset, shape }, quantizeOptions);
    }
    const stored = await read();
    const values = "algorithm" in stored ? await backend.dequantize(stored) : widen(stored);
    return await backend.quantize(wanted, values, quantizeOptions);
  } catch (error) {
    const { index, value } = isIsqError(error, "values/non-finite") ? error.details : {};
    if (typeof index !== "number") throw error;
    throw nonFiniteError(Number(value), index + start * (elementCount(row.shape) / rows), row.tensor);
  }
}
