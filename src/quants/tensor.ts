/** What a quantized tensor is, its sizes, and the checks at the door that every codec shares. */

import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { type Algorithm, type IsqType, TYPE_NAMES, TYPES, type TypeRow } from "./table.js";

/** A quantized tensor: plain data, safe to store, compare and send between threads. */
export interface QuantizedTensor {
  readonly type: IsqType;
  readonly algorithm: Algorithm;
  /** Row-major; blocks run along the last dimension. */
  readonly shape: readonly number[];
  /** The blocks (block types), packed codes (HQQ) or one code per element (FP8). */
  readonly data: Uint8Array;
  /** HQQ: 1 / s of each group, f32. */
  readonly scales?: Float32Array;
  /** HQQ: z of each group, f32. */
  readonly zeros?: Float32Array;
  /** FP8: what the weights were multiplied by. */
  readonly quantizeScale?: number;
  /** FP8: what decoded codes are multiplied by. */
  readonly dequantizeScale?: number;
  /**
   * Super-blocks whose scale came out NaN under the `mistralrs` importance search and that were therefore encoded
   * again without importance. Absent when there were none.
   */
  readonly reencodedBlocks?: number;
  /**
   * Blocks (groups of HQQ, runs of 32 of FP8) that a GPU could not compute exactly and that WebAssembly encoded instead:
   * the bytes are the same. Absent when there were none.
   */
  readonly repairedBlocks?: number;
}

/** Shape of the values, and which encoder is to be used how. */
export interface QuantizeOptions {
  /** Row-major, rank 1 or more. */
  readonly shape: readonly number[];
  /** Encoder lineage; the first of the type's list when absent. */
  readonly algorithm?: Algorithm;
  /** One non-negative finite value per column (last dimension), shared by all rows. */
  readonly importance?: Float32Array;
  /** `refuse` (default): a NaN or infinite weight is an error. `raw`: the encoder's own rule, where it is defined. */
  readonly nonFinite?: "refuse" | "raw";
  /** Tensor name, for error messages. */
  readonly name?: string;
}

/** Resolves a type name: any case, ggml spelling (`q4_k`) or ours (`Q4K`). Throws `type/unknown` listing all names. */
export function parseType(name: string): IsqType {
  const key = String(name).toLowerCase();
  for (const row of Object.values(TYPES)) {
    if (key === row.name.toLowerCase() || key === row.stem) return row.name;
  }
  throw new IsqError("type/unknown", `unknown type "${name}"; the types are ${TYPE_NAMES.join(", ")}`, {
    field: "type",
    value: name,
    limit: TYPE_NAMES,
  });
}

/** Resolves the encoder of a type; `undefined` gives the default. Throws `algorithm/unknown` with the type's list. */
export function parseAlgorithm(type: IsqType, algorithm: string | undefined): Algorithm {
  const { algorithms } = TYPES[type];
  if (algorithm === undefined) return algorithms[0];
  const found = algorithms.find((candidate) => candidate === algorithm);
  if (found) return found;
  throw new IsqError(
    "algorithm/unknown",
    `${type} has no algorithm "${algorithm}"; it has ${algorithms.join(", ")}`,
    {
      field: "algorithm",
      value: algorithm,
      limit: algorithms,
    },
  );
}

/** Number of elements of a shape. Throws `shape/invalid` for rank 0, bad dimensions or products beyond the limits. */
export function elementCount(shape: readonly number[], name?: string): number {
  const about = name === undefined ? "" : ` of ${name}`;
  if (!Array.isArray(shape) || shape.length === 0 || shape.length > LIMITS.tensorRank) {
    throw new IsqError(
      "shape/invalid",
      `the shape${about} must have 1 to ${LIMITS.tensorRank} dimensions, not ${shape?.length}`,
      { ...(name !== undefined && { tensor: name }), field: "shape", value: shape, limit: LIMITS.tensorRank },
    );
  }
  let product = 1;
  for (const dimension of shape) {
    product *= dimension;
    if (!Number.isSafeInteger(dimension) || dimension < 0 || product > LIMITS.tensorElements) {
      throw new IsqError(
        "shape/invalid",
        `the shape${about} [${shape.join(", ")}] has an impossible dimension ${dimension}`,
        {
          ...(name !== undefined && { tensor: name }),
          field: "shape",
          value: shape,
          limit: LIMITS.tensorElements,
        },
      );
    }
  }
  return product;
}

/** Elements of one row: the last dimension. */
export function rowElements(shape: readonly number[]): number {
  return shape[shape.length - 1];
}

/** True when a tensor of this shape can be stored as this type. */
export function fits(type: IsqType, shape: readonly number[]): boolean {
  const row = TYPES[type];
  if (row.family === "block") return rowElements(shape) % row.blockElements === 0;
  return elementCount(shape) % row.blockElements === 0;
}

/** Bytes of a whole tensor, side arrays (HQQ scales and zeros) included; FP8's two scales are not. */
export function byteLengthOf(type: IsqType, shape: readonly number[]): number {
  const row = TYPES[type];
  return (elementCount(shape) / row.blockElements) * row.blockBytes;
}

/** Bytes of the `data` field alone. */
export function dataByteLength(type: IsqType, shape: readonly number[]): number {
  const row = TYPES[type];
  const sideBytes = row.family === "group" ? 8 : 0;
  return (elementCount(shape) / row.blockElements) * (row.blockBytes - sideBytes);
}

/** Bits per weight, side arrays included. */
export function bitsPerWeight(type: IsqType): number {
  const row = TYPES[type];
  return (row.blockBytes * 8) / row.blockElements;
}

/** Throws `shape/block` unless the shape suits the type. */
export function checkShape(row: TypeRow, shape: readonly number[], name?: string): void {
  if (fits(row.name, shape)) return;
  const what = row.family === "block" ? "last dimension" : "element count";
  const value = row.family === "block" ? rowElements(shape) : elementCount(shape);
  throw new IsqError(
    "shape/block",
    `${row.name} needs a ${what} that is a multiple of ${row.blockElements}, and ${name ?? "the tensor"} has ${value}`,
    { ...(name !== undefined && { tensor: name }), field: "shape", value: shape, limit: row.blockElements },
  );
}

/** Throws `values/non-finite` with the first bad index. */
export function checkFinite(values: Float32Array, name?: string): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw nonFiniteError(values[i], i, name);
  }
}

/** The refusal of an infinite or NaN weight. */
export function nonFiniteError(value: number, index: number, name?: string): IsqError {
  return new IsqError(
    "values/non-finite",
    `${name ?? "the tensor"} has the non-finite value ${value} at element ${index}`,
    { ...(name !== undefined && { tensor: name }), field: "values", value: String(value), index },
  );
}

/** Throws `importance/*` unless the vector suits type, algorithm and row length. */
export function checkImportance(
  row: TypeRow,
  algorithm: Algorithm,
  importance: Float32Array,
  width: number,
  name?: string,
): void {
  const about = name !== undefined ? { tensor: name } : {};
  if (!row.importance.includes(algorithm)) {
    throw new IsqError(
      "importance/unsupported",
      `${row.name} with algorithm ${algorithm} takes no importance; ${
        row.importance.length ? `${row.importance.join(", ")} does` : "no algorithm of this type does"
      }`,
      { ...about, field: "importance", value: algorithm, limit: row.importance },
    );
  }
  if (importance.length !== width) {
    throw new IsqError(
      "importance/length",
      `importance has ${importance.length} values and ${name ?? "the tensor"} has ${width} columns`,
      { ...about, field: "importance", value: importance.length, limit: width },
    );
  }
  for (let i = 0; i < importance.length; i++) {
    if (importance[i] >= 0 && importance[i] < Number.POSITIVE_INFINITY) continue;
    throw new IsqError(
      "importance/value",
      `importance must be finite and not negative, and is ${importance[i]} at column ${i}`,
      { ...about, field: "importance", value: String(importance[i]), index: i, limit: 0 },
    );
  }
}
