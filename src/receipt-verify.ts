/** Checking receipts: what the files hold, and what the encoder makes of the source again. */

import type { Backend, DenseType, Tensor } from "./backends/backend.js";
import { isDense, narrow, widen } from "./dense.js";
import { checkAborted, IsqError } from "./errors.js";
import { type ByteSource, readRange } from "./files/source.js";
import { gatherRows, interleavedRows } from "./model/gguf/rows.js";
import type { Plan } from "./plan.js";
import { dequantize, parseAlgorithm, parseType, quantize, TYPES } from "./quants/index.js";
import type { IsqType } from "./quants/table.js";
import {
  type HashedRange,
  hashOf,
  hashOfRow,
  hashOfValues,
  hashRange,
  type Receipt,
  type ReceiptTensor,
} from "./receipt.js";
import { sideOf } from "./receipt-places.js";

/** `same` and `differs` are about sha256; the others say why there is nothing to compare. */
export type Check = "same" | "differs" | "not given" | "outside of the file";

/** What became of the checks of one tensor. */
export interface TensorCheck {
  readonly tensor: string;
  /** The row of the plan that was given. */
  readonly plan: Check;
  readonly source: Check;
  readonly output: Check;
  /** The output, made again from the source; `differs` too when the source does. */
  readonly again: Check;
}

/** What {@link verifyReceipt} checks, and against what; what is absent is not checked. */
export interface VerifyOptions {
  /** Tensors to check; all when absent. */
  readonly tensors?: readonly string[];
  /** Opens a file of the source by its name. Without it, sources are not checked and outputs not made again. */
  readonly source?: (file: string) => Promise<ByteSource>;
  /** The output, or what opens a file of a set by its name. */
  readonly output?: ByteSource | ((file: string) => Promise<ByteSource>);
  readonly plan?: Pick<Plan, "rows">;
  readonly importance?: ReadonlyMap<string, Float32Array>;
  /** Encodes on this backend; the reference when absent. */
  readonly backend?: Backend;
  readonly signal?: AbortSignal;
}

/**
 * Checks tensors by reading their ranges alone. Throws `tensor/missing` for a name that the receipt lacks,
 * `receipt/invalid` for a row that no encoder can follow, `source/*` for files that cannot be read.
 */
export async function verifyReceipt(receipt: Receipt, options: VerifyOptions): Promise<TensorCheck[]> {
  const known = new Map(receipt.tensors.map((row) => [row.tensor, row]));
  const names = options.tensors ?? [...known.keys()];
  const open: ByteSource[] = [];
  const openOnce = (by: VerifyOptions["source"]) => {
    const found = new Map<string, ByteSource>();
    return async (file: string): Promise<ByteSource | undefined> => {
      const there = found.get(file);
      if (there || !by) return there;
      const opened = await by(file);
      found.set(file, opened);
      open.push(opened);
      return opened;
    };
  };
  const { output } = options;
  const places = {
    source: openOnce(options.source),
    output: typeof output === "function" ? openOnce(output) : async () => output,
  };
  try {
    const checks: TensorCheck[] = [];
    for (const name of names) {
      checkAborted(options.signal);
      const row = known.get(name);
      if (!row) throw new IsqError("tensor/missing", `the receipt has no tensor ${name}`, { tensor: name });
      checks.push(await verifyTensor(row, places, options));
    }
    return checks;
  } finally {
    for (const source of open) await source.close?.();
  }
}

async function verifyTensor(
  row: ReceiptTensor,
  places: Record<"source" | "output", (file: string) => Promise<ByteSource | undefined>>,
  options: VerifyOptions,
): Promise<TensorCheck> {
  const { tensor, source, output } = row;
  const from = source.file === null ? undefined : await places.source(source.file);
  const to = output.file === null ? undefined : await places.output(output.file);
  const checks = {
    tensor,
    plan: checkRow(row, options.plan),
    source: await checkRange(source, from),
    output: await checkOutput(output, to),
  };
  if (checks.source !== "same") return { ...checks, again: checks.source };
  const start = source.byteOffset as number;
  const bytes = await readRange(from as ByteSource, start, start + source.byteLength);
  return { ...checks, again: await makeAgain(row, bytes, options) };
}

function checkRow({ tensor, plan: { sha256, ...own } }: ReceiptTensor, plan: VerifyOptions["plan"]): Check {
  if (!plan) return "not given";
  const row = plan.rows.find((other) => other.tensor === tensor);
  const says = row && { type: row.type, algorithm: row.algorithm, importance: row.importance };
  const same = row && hashOfRow(row) === sha256 && JSON.stringify(says) === JSON.stringify(own);
  return same ? "same" : "differs";
}

async function checkRange(range: HashedRange, source?: ByteSource): Promise<Check> {
  const { byteOffset, byteLength, sha256 } = range;
  if (!source || byteOffset === null) return "not given";
  if (byteOffset + byteLength > source.byteLength) return "outside of the file";
  return (await hashRange(source, { byteOffset, byteLength })) === sha256 ? "same" : "differs";
}

/** The codes, and what lies apart from them. */
async function checkOutput(output: ReceiptTensor["output"], source?: ByteSource): Promise<Check> {
  for (const range of [output, ...(output.sides ?? [])]) {
    const check = await checkRange(range, source);
    if (check !== "same") return check;
  }
  return "same";
}

/** Encodes the source as the receipt says and compares with the output's hashes. */
async function makeAgain(row: ReceiptTensor, bytes: Uint8Array, options: VerifyOptions): Promise<Check> {
  const importance = options.importance?.get(row.tensor);
  if (row.importance !== null && !importance) return "not given";
  if (row.importance !== null && importance && hashOfValues(importance) !== row.importance) return "differs";
  const { shape, output } = row;
  const used = row.importance === null ? undefined : importance;
  const made = await encodeAgain(row, bytes, used, encoderOf(options));
  if (made === null) return "not given";
  const { rows, sides = [] } = output;
  if (rows && (rows.heads === 0 || shape[0] % (2 * rows.heads) !== 0)) {
    const message = `${row.tensor} has ${shape[0]} rows, which are not ${rows.heads} heads of pairs`;
    throw new IsqError("receipt/invalid", message, { tensor: row.tensor, field: "rows", value: rows.heads });
  }
  const ordered = rows ? gatherRows(made.data, interleavedRows(shape[0], rows.heads)) : made.data;
  const same =
    hashOf(ordered) === output.sha256 &&
    sides.every(({ suffix, sha256 }) => hashOfValues(sideOf(made, suffix)) === sha256);
  return same ? "same" : "differs";
}

const encoderOf = ({ backend }: VerifyOptions): Backend["quantize"] =>
  backend ? (...request) => backend.quantize(...request) : quantize;

/** The output's tensor; null where the source's bytes alone do not say its values. */
async function encodeAgain(
  { shape, source, plan, tensor, output }: ReceiptTensor,
  data: Uint8Array,
  importance: Float32Array | undefined,
  encode: Backend["quantize"],
): Promise<Tensor | null> {
  const kept = plan.algorithm === null;
  if (kept && (output.type === source.type || !isDense(output.type))) {
    return { type: source.type as DenseType, shape, data };
  }
  const values = valuesOf(source.type, shape, data);
  if (values === null) return null;
  if (kept) {
    const type = output.type as DenseType;
    return { type, shape, data: narrow(values, type) };
  }
  const type = parseType(plan.type);
  const algorithm = parseAlgorithm(type, plan.algorithm as string);
  const request = { shape, algorithm, name: tensor, ...(importance && { importance }) };
  return encode(type, values, request);
}

function valuesOf(type: string, shape: readonly number[], data: Uint8Array): Float32Array | null {
  if (isDense(type)) return widen({ type, shape, data });
  const name: IsqType = parseType(type);
  if (TYPES[name].family !== "block") return null; // its scales lie elsewhere
  return dequantize({ type: name, algorithm: TYPES[name].algorithms[0], shape, data });
}
