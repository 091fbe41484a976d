/** A tensor of an open file, decoded piece by piece, and compared with its source. */

import type { DenseType } from "../../src/backends/backend.js";
import { DENSE_BYTES, isDense, widen } from "../../src/dense.js";
import { checkAborted, IsqError } from "../../src/errors.js";
import type { Checkpoint, CheckpointEntry } from "../../src/files/checkpoint.js";
import { floatFromE4m3 } from "../../src/numerics.js";
import { type BlockNumber, readBlock } from "../../src/oracle/layout.js";
import { dequantize, type IsqType, type QuantizedTensor, TYPES } from "../../src/quants/index.js";
import { dataByteLength, elementCount, rowElements } from "../../src/quants/tensor.js";
import { type Units, unitsOf } from "./units.js";

export type OpenFile = Pick<Checkpoint, "name" | "tensors" | "readRange" | "readSides">;

/** Error of every unit; NaN where a unit decodes to no number. */
export interface UnitErrors {
  /** Root mean square of decoded minus source. */
  readonly rms: Float32Array;
  /** The same over the root mean square of the source; 0 where both are 0. */
  readonly relative: Float32Array;
}

export interface ElementView {
  /** In the tensor, row-major. */
  readonly index: number;
  readonly code?: BlockNumber;
  readonly decoded: number;
  readonly source?: number;
}

/** One unit in full. */
export interface UnitView {
  readonly bytes: Uint8Array | null;
  /** Scales of the whole unit by name. */
  readonly scales: readonly (readonly [name: string, value: number])[];
  readonly subScales: readonly BlockNumber[];
  readonly subMins: readonly BlockNumber[];
  readonly elements: readonly ElementView[];
}

export interface TensorView {
  readonly entry: CheckpointEntry;
  readonly units: Units;
  readonly hasSource: boolean;
  /** Errors of all units. Throws `aborted`, `source/*`. */
  measure(signal: AbortSignal, onProgress: (share: number) => void): Promise<UnitErrors>;
  /** Everything about one unit. */
  read(unit: number): Promise<UnitView>;
}

/** Elements decoded at a time; the page answers in between. */
const PIECE_ELEMENTS = 2 ** 20;

/** Whether a tensor can be decoded here. */
export const isReadable = ({ dtype }: CheckpointEntry): boolean =>
  isDense(dtype) || Object.hasOwn(TYPES, dtype);

/** Opens a tensor. Throws `tensor/shape` when the source's has another shape. */
export function openTensorView(file: OpenFile, entry: CheckpointEntry, source: OpenFile | null): TensorView {
  const { name, dtype, shape, algorithm } = entry;
  const units = unitsOf(dtype, algorithm, shape);
  const from = source?.tensors.get(name);
  const comparable = from && isReadable(from) ? from : null;
  if (comparable && comparable.shape.join() !== shape.join()) {
    const message = `${name} is [${shape.join(", ")}], and [${comparable.shape.join(", ")}] in ${source?.name}`;
    throw new IsqError("tensor/shape", message, { tensor: name, value: comparable.shape, limit: shape });
  }
  const ours = createReader(file, entry);
  const theirs = source && comparable ? createReader(source, comparable) : null;
  return {
    entry,
    units,
    hasSource: theirs !== null,
    async measure(signal, onProgress) {
      const sums = createSums(units);
      const total = elementCount(shape);
      const step = stepOf(units, shape);
      for (let start = 0; start < total; start += step) {
        checkAborted(signal);
        const end = Math.min(total, start + step);
        const [decoded, wanted] = [await ours.values(start, end), await theirs?.values(start, end)];
        if (wanted) sums.add(decoded, wanted, start);
        onProgress(end / total);
        await new Promise((resolve) => setTimeout(resolve)); // lets the page draw and listen
      }
      return sums.finish();
    },
    async read(unit) {
      const indices = units.indicesOf(unit);
      const decoded = await ours.at(indices, units.consecutive);
      const wanted = await theirs?.at(indices, units.consecutive);
      const own = await ours.unit(unit, indices);
      const elements = Array.from(indices, (index, i) => ({
        index,
        ...(own.codes[i] && { code: own.codes[i] }),
        decoded: decoded[i],
        ...(wanted && { source: wanted[i] }),
      }));
      return { ...own, elements };
    },
  };
}

/** Whole rows where units lie in rows, else everything at once. */
function stepOf(units: Units, shape: readonly number[]): number {
  if (!units.consecutive) return elementCount(shape);
  const columns = rowElements(shape);
  return columns * Math.max(1, Math.floor(PIECE_ELEMENTS / Math.max(1, columns)));
}

function createSums(units: Units) {
  const noise = new Float64Array(units.count);
  const signal = new Float64Array(units.count);
  return {
    /** Values from element `start` on. */
    add(decoded: Float32Array, wanted: Float32Array, start: number): void {
      for (let unit = firstUnit(units, start); unit < units.count; unit++) {
        const indices = units.indicesOf(unit);
        if (indices[indices.length - 1] - start >= decoded.length) return;
        for (const index of indices) {
          const [a, b] = [decoded[index - start], wanted[index - start]];
          noise[unit] += (a - b) ** 2;
          signal[unit] += b ** 2;
        }
      }
    },
    finish(): UnitErrors {
      const rms = new Float32Array(units.count);
      const relative = new Float32Array(units.count);
      for (let unit = 0; unit < units.count; unit++) {
        rms[unit] = Math.sqrt(noise[unit] / units.indicesOf(unit).length);
        relative[unit] = noise[unit] === 0 ? 0 : Math.sqrt(noise[unit] / signal[unit]);
      }
      return { rms, relative };
    },
  };
}

/** The unit that starts at an element. */
function firstUnit(units: Units, start: number): number {
  if (start === 0) return 0;
  let [low, high] = [0, units.count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (units.indicesOf(middle)[0] < start) low = middle + 1;
    else high = middle;
  }
  return low;
}

interface Reader {
  /** Decoded values of a run of elements, whole units. */
  values(start: number, end: number): Promise<Float32Array>;
  /** Decoded values of single elements. */
  at(indices: Uint32Array, consecutive: boolean): Promise<Float32Array>;
  /** What a unit is made of; without codes for dense tensors. */
  unit(
    unit: number,
    indices: Uint32Array,
  ): Promise<Omit<UnitView, "elements"> & { readonly codes: readonly BlockNumber[] }>;
}

function createReader(file: OpenFile, entry: CheckpointEntry): Reader {
  if (isDense(entry.dtype)) return createDenseReader(file, entry, entry.dtype);
  const type = entry.dtype as IsqType;
  return TYPES[type].family === "block"
    ? createBlockReader(file, entry, type)
    : createWholeReader(file, entry, type);
}

const NOTHING = { bytes: null, scales: [], subScales: [], subMins: [], codes: [] };

function pickValues(values: Float32Array, indices: Uint32Array, first: number): Float32Array {
  return Float32Array.from(indices, (index) => values[index - first]);
}

function createDenseReader(file: OpenFile, { name }: CheckpointEntry, type: DenseType): Reader {
  const size = DENSE_BYTES[type];
  const values = async (start: number, end: number) =>
    widen({ type, shape: [end - start], data: await file.readRange(name, size * start, size * end) });
  return {
    values,
    async at(indices, consecutive) {
      const [first, last] = [indices[0], indices[indices.length - 1]];
      if (consecutive || last - first < PIECE_ELEMENTS)
        return pickValues(await values(first, last + 1), indices, first);
      const out = new Float32Array(indices.length);
      for (const [i, index] of indices.entries()) out[i] = (await values(index, index + 1))[0];
      return out;
    },
    async unit(_unit, indices) {
      const [start, end] = [size * indices[0], size * (indices[indices.length - 1] + 1)];
      return { ...NOTHING, bytes: await file.readRange(name, start, end) };
    },
  };
}

function createBlockReader(file: OpenFile, { name }: CheckpointEntry, type: IsqType): Reader {
  const { blockBytes, blockElements, algorithms } = TYPES[type];
  const bytesOf = (start: number, end: number) => {
    const first = Math.floor(start / blockElements);
    const last = Math.ceil(end / blockElements);
    return file.readRange(name, first * blockBytes, last * blockBytes);
  };
  const values = async (start: number, end: number) => {
    const first = Math.floor(start / blockElements) * blockElements;
    const data = await bytesOf(start, end);
    const shape = [(data.length / blockBytes) * blockElements];
    const decoded = dequantize({ type, algorithm: algorithms[0], shape, data });
    return decoded.subarray(start - first, end - first);
  };
  return {
    values,
    at: async (indices) =>
      pickValues(await values(indices[0], indices[indices.length - 1] + 1), indices, indices[0]),
    async unit(_unit, indices) {
      const bytes = await bytesOf(indices[0], indices[0] + blockElements);
      const { scales, subScales, subMins, codes } = readBlock(type, bytes);
      return { bytes, scales: Object.entries(scales), subScales, subMins, codes };
    },
  };
}

/** HQQ and FP8: read once, as a whole. */
function createWholeReader(file: OpenFile, entry: CheckpointEntry, type: IsqType): Reader {
  const { name, shape } = entry;
  const algorithm = entry.algorithm ?? TYPES[type].algorithms[0];
  let read: Promise<{ tensor: QuantizedTensor; values: Float32Array }> | undefined;
  const whole = () => {
    read ??= (async () => {
      const data = await file.readRange(name, 0, dataByteLength(type, shape));
      const tensor = { type, algorithm, shape, data, ...(await file.readSides?.(name)) };
      return { tensor, values: dequantize(tensor) };
    })();
    return read;
  };
  return {
    values: async (start, end) => (await whole()).values.subarray(start, end),
    at: async (indices) => pickValues((await whole()).values, indices, 0),
    async unit(unit, indices) {
      const { data, scales, zeros, dequantizeScale = 1 } = (await whole()).tensor;
      if (!scales || !zeros) {
        const codes = Array.from(indices, (i) => ({ stored: data[i], value: floatFromE4m3(data[i]) }));
        const bytes = data.slice(indices[0], indices[0] + indices.length);
        return { ...NOTHING, bytes, codes, scales: [["scale of the tensor", dequantizeScale]] };
      }
      const codes = Array.from(indices, (_, r) => {
        const stored = hqqCode(type, data, scales.length, unit, r);
        return { stored, value: stored };
      });
      return {
        ...NOTHING,
        codes,
        scales: [["scale", scales[unit]] as const, ["zero", zeros[unit]] as const],
      };
    },
  };
}

/** Member r of group j: bytes, or nibbles of which the first 32 members are the high ones. */
function hqqCode(type: IsqType, data: Uint8Array, groups: number, j: number, r: number): number {
  if (type === "HQQ8") return data[r * groups + j];
  return r < 32 ? data[r * groups + j] >> 4 : data[(r - 32) * groups + j] & 15;
}
