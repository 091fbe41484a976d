/** What a stream of vectors asks: operation, type, algorithm, seed, number and size of the cases. */

import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import {
  type Algorithm,
  byteLengthOf,
  type IsqType,
  parseAlgorithm,
  parseType,
  TYPES,
} from "../quants/index.js";

/** `encode`: values to blocks; `decode`: blocks to values; `dot`: weights and activations to one number. */
export const OPERATIONS = ["encode", "decode", "dot"] as const;
/** One of {@link OPERATIONS}. */
export type Operation = (typeof OPERATIONS)[number];

/** Raised when the same seed gives other cases than before; a stream of another generation is refused. */
export const GENERATION = 1;

/** Which cases a stream has; the same spec gives the same cases everywhere. */
export interface VectorSpec {
  readonly operation: Operation;
  readonly type: IsqType;
  /** Encoder lineage; for `dot` the order of the float steps (`ggml` or `mistralrs`). */
  readonly algorithm: Algorithm;
  /** Encode with an importance vector. */
  readonly importance: boolean;
  /** Unsigned 32-bit. */
  readonly seed: number;
  /** Number of cases. */
  readonly count: number;
  /** Elements of each case: one row, or for HQQ and FP8 one tensor of shape [1, columns]. */
  readonly columns: number;
}

/** A spec as it is typed; {@link makeSpec} checks it and fills in the rest. */
export interface SpecOptions {
  readonly operation?: string;
  readonly type: string;
  readonly algorithm?: string;
  readonly importance?: boolean;
  readonly seed?: number;
  readonly count?: number;
  readonly columns?: number;
}

/** One row of each K type's super-blocks and eight blocks of the types of 32. */
const DEFAULT_COLUMNS = 256;
const DEFAULT_COUNT = 1000;

/**
 * Checks the options and fills in the defaults. Throws `type/*`, `algorithm/unknown`, `importance/unsupported`,
 * `option/invalid` or `shape/block`.
 */
export function makeSpec(options: SpecOptions): VectorSpec {
  const type = parseType(options.type);
  const operation = parseOperation(options.operation ?? "encode", type);
  const { importance = false, seed = 0, count = DEFAULT_COUNT, columns = DEFAULT_COLUMNS } = options;
  const algorithm = parseAlgorithm(type, options.algorithm);
  checkWhole("seed", seed, 0, 0xffffffff);
  checkWhole("count", count, 1, LIMITS.vectorCount);
  checkWhole("columns", columns, 1, LIMITS.vectorColumns);
  if (columns % TYPES[type].blockElements !== 0) {
    throw new IsqError(
      "shape/block",
      `${type} needs columns that are a multiple of ${TYPES[type].blockElements}, not ${columns}`,
      { field: "columns", value: columns, limit: TYPES[type].blockElements },
    );
  }
  if (importance && (operation !== "encode" || !TYPES[type].importance.includes(algorithm))) {
    throw new IsqError(
      "importance/unsupported",
      `${operation} of ${type} with algorithm ${algorithm} takes no importance`,
      { field: "importance", value: true, limit: TYPES[type].importance },
    );
  }
  return { operation, type, algorithm, importance, seed, count, columns };
}

function parseOperation(name: string, type: IsqType): Operation {
  const operation = OPERATIONS.find((candidate) => candidate === name);
  if (!operation) {
    throw new IsqError("option/invalid", `unknown operation "${name}"; there are ${OPERATIONS.join(", ")}`, {
      field: "operation",
      value: name,
      limit: OPERATIONS,
    });
  }
  if (operation === "dot" && TYPES[type].dotPartner === null) {
    throw new IsqError("type/unsupported", `${type} has no dot product of its own: it is decoded first`, {
      field: "type",
      value: type,
    });
  }
  return operation;
}

function checkWhole(field: string, value: number, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  throw new IsqError(
    "option/invalid",
    `${field} must be a whole number from ${least} to ${most}, not ${value}`,
    {
      field,
      value,
      limit: [least, most],
    },
  );
}

/** Bytes of a packed tensor of these columns: data, then HQQ's scales and zeros, or FP8's two scales. */
export function packedByteLength(type: IsqType, columns: number): number {
  return byteLengthOf(type, [columns]) + (TYPES[type].family === "tensor" ? 8 : 0);
}

/** Bytes of one case's input parts, in the order in which the streams carry them. */
export function inputByteLengths(spec: VectorSpec): Readonly<Record<string, number>> {
  const { operation, type, columns } = spec;
  if (operation === "decode") return { data: packedByteLength(type, columns) };
  if (operation === "dot") {
    const partner = TYPES[type].dotPartner as IsqType;
    return { weights: packedByteLength(type, columns), activations: packedByteLength(partner, columns) };
  }
  return { values: 4 * columns, ...(spec.importance && { importance: 4 * columns }) };
}

/** Bytes of one answer. */
export function answerByteLength({ operation, type, columns }: VectorSpec): number {
  if (operation === "encode") return packedByteLength(type, columns);
  return operation === "decode" ? 4 * columns : 4;
}
