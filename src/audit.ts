/** Auditing a file: every tensor's bytes against its source, and without a source against what encoders can write. */

import type { Backend, DenseType } from "./backends/backend.js";
import { DENSE_BYTES, isDense, narrow, widen } from "./dense.js";
import { checkAborted, IsqError } from "./errors.js";
import type { Checkpoint, CheckpointEntry } from "./files/checkpoint.js";
import { ggmlTypeNamed } from "./files/ggml-types.js";
import { auditTensor, openTensorAudit, type TensorFindings } from "./oracle/audit-tensor.js";
import { type Inspection, inspectTensor } from "./oracle/inspect.js";
import { type IsqType, TYPES } from "./quants/table.js";
import { elementCount, rowElements } from "./quants/tensor.js";

/** What is read of a file or folder; every {@link Checkpoint} is one. */
export type AuditedFile = Pick<Checkpoint, "name" | "tensors" | "readRange" | "readSides">;

export interface AuditOptions {
  /** The weights that the file is said to be made of. Without them, only {@link TensorReport.inspection}. */
  readonly source?: AuditedFile;
  /** Importance by tensor name, to be tried along with none. */
  readonly importance?: ReadonlyMap<string, Float32Array>;
  /** Encodes on this backend; the reference when absent. */
  readonly backend?: Backend;
  readonly signal?: AbortSignal;
  /** Called after every tensor. */
  readonly onProgress?: (done: number, total: number, tensor: string) => void;
}

/** Why a tensor was not compared. */
export type NotCompared = "no source given" | "no such tensor in the source" | "type without a decoder here";

export interface TensorReport {
  readonly tensor: string;
  readonly type: string;
  readonly shape: readonly number[];
  readonly findings?: TensorFindings;
  /** Dense tensors have no encoder: equal values, or the first element that is another. */
  readonly dense?: { readonly equal: boolean; readonly element?: number };
  readonly notCompared?: NotCompared;
  /** Of quantized tensors. */
  readonly inspection?: Inspection;
}

export interface AuditReport {
  readonly file: string;
  readonly source: string | null;
  readonly tensors: readonly TensorReport[];
  /** Nothing worse than near ties, no scale that is no number, no impossible field. */
  readonly ok: boolean;
}

/** Elements of one piece. */
const PIECE_ELEMENTS = 2 ** 22;

/**
 * Audits every tensor of a file. Throws `source/*`, `values/non-finite` for a source that cannot be encoded, `tensor/shape`
 * when a tensor and its source differ in shape, `aborted`.
 */
export async function audit(file: AuditedFile, options: AuditOptions = {}): Promise<AuditReport> {
  const tensors: TensorReport[] = [];
  const entries = [...file.tensors.values()].filter(({ name }) => !isSide(file, name));
  for (const entry of entries) {
    checkAborted(options.signal);
    tensors.push(await auditEntry(file, entry, options));
    options.onProgress?.(tensors.length, entries.length, entry.name);
  }
  const ok = tensors.every(isFine);
  return { file: file.name, source: options.source?.name ?? null, tensors, ok };
}

/** A quantized tensor of the file's types, or null. */
function quantizedType(dtype: string): IsqType | null {
  if (Object.hasOwn(TYPES, dtype)) return dtype as IsqType;
  return ggmlTypeNamed(dtype)?.isq ?? null;
}

/** Scales and zeros of another tensor: they are looked at with it. */
function isSide({ tensors }: AuditedFile, name: string): boolean {
  const owner = tensors.get(name.replace(/\.(scales|zeros)$/, ""));
  const type = owner && owner.name !== name ? quantizedType(owner.dtype) : null;
  return type !== null && TYPES[type].family !== "block";
}

function isFine({ findings, dense, inspection }: TensorReport): boolean {
  if (inspection && (inspection.nonFinite > 0 || inspection.impossible.length > 0)) return false;
  if (dense) return dense.equal;
  return !findings || findings.counts["other-search"] + findings.counts.foreign === 0;
}

async function auditEntry(
  file: AuditedFile,
  entry: CheckpointEntry,
  options: AuditOptions,
): Promise<TensorReport> {
  const { name: tensor, dtype, shape } = entry;
  const type = quantizedType(dtype);
  const about = { tensor, type: type ?? dtype, shape };
  const source = options.source && sourceOf(options.source, entry);
  if (isDense(dtype)) {
    const dense = source && (await compareDense(file, entry, options.source as AuditedFile, source));
    return dense ? { ...about, dense } : { ...about, notCompared: reasonFor(options) };
  }
  if (type === null) return { ...about, notCompared: "type without a decoder here" };
  const auditParts = TYPES[type].family === "block" ? auditBlocks : auditWhole;
  return { ...about, ...(await auditParts(file, entry, type, source, options)) };
}

const reasonFor = ({ source }: AuditOptions): NotCompared =>
  source ? "no such tensor in the source" : "no source given";

/** The source's tensor of this name, of a dense type. */
function sourceOf(source: AuditedFile, { name, shape }: CheckpointEntry): CheckpointEntry | undefined {
  const found = source.tensors.get(name);
  if (!found || !isDense(found.dtype)) return undefined;
  if (found.shape.join() === shape.join()) return found;
  const message = `${name} is [${found.shape.join(", ")}] in ${source.name}, not [${shape.join(", ")}]`;
  throw new IsqError("tensor/shape", message, {
    file: source.name,
    tensor: name,
    value: found.shape,
    limit: shape,
  });
}

/** Rows in pieces of about PIECE_ELEMENTS. */
function* pieces(shape: readonly number[]): Generator<readonly [from: number, to: number]> {
  const columns = shape[shape.length - 1];
  const rows = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const step = Math.max(1, Math.floor(PIECE_ELEMENTS / Math.max(1, columns)));
  for (let from = 0; from < rows && columns > 0; from += step) yield [from, Math.min(rows, from + step)];
}

async function readValues(
  source: AuditedFile,
  { name, dtype, shape }: CheckpointEntry,
  from: number,
  to: number,
): Promise<Float32Array> {
  const columns = shape[shape.length - 1];
  const type = dtype as keyof typeof DENSE_BYTES;
  const rowBytes = columns * DENSE_BYTES[type];
  return widen({
    type,
    shape: [to - from, columns],
    data: await source.readRange(name, from * rowBytes, to * rowBytes),
  });
}

type Findings = Pick<TensorReport, "findings" | "inspection" | "notCompared">;

/** HQQ and FP8: their encoders look at the whole tensor, and so does the audit. */
async function auditWhole(
  file: AuditedFile,
  { name, shape, byteLength, algorithm }: CheckpointEntry,
  type: IsqType,
  source: CheckpointEntry | undefined,
  options: AuditOptions,
): Promise<Findings> {
  const { backend } = options;
  const data = await file.readRange(name, 0, byteLength);
  const sides = await file.readSides?.(name);
  const tensor = { type, algorithm: algorithm ?? TYPES[type].algorithms[0], shape, data, ...sides };
  const inspection = inspectTensor(tensor);
  if (!source) return { inspection, notCompared: reasonFor(options) };
  const rows = elementCount(shape) / rowElements(shape);
  const values = await readValues(options.source as AuditedFile, source, 0, rows);
  const encode = backend && {
    quantize: (...args: Parameters<Backend["quantize"]>) => backend.quantize(...args),
  };
  const sourceType = source.dtype as DenseType;
  return { inspection, findings: await auditTensor(tensor, values, { sourceType, ...encode }) };
}

async function auditBlocks(
  file: AuditedFile,
  { name, shape }: CheckpointEntry,
  type: IsqType,
  source: CheckpointEntry | undefined,
  options: AuditOptions,
): Promise<Findings> {
  const columns = shape[shape.length - 1];
  const { blockBytes, blockElements } = TYPES[type];
  const rowBytes = (columns / blockElements) * blockBytes;
  const { backend, importance } = options;
  const comparing =
    source &&
    openTensorAudit(type, columns, {
      sourceType: source.dtype as DenseType,
      importance: importance?.get(name),
      ...(backend && { quantize: (...args) => backend.quantize(...args) }),
    });
  const inspections: Inspection[] = [];
  for (const [from, to] of pieces(shape)) {
    checkAborted(options.signal);
    const data = await file.readRange(name, from * rowBytes, to * rowBytes);
    const algorithm = TYPES[type].algorithms[0];
    inspections.push(inspectTensor({ type, algorithm, shape: [to - from, columns], data }));
    if (source) await comparing?.add(await readValues(options.source as AuditedFile, source, from, to), data);
  }
  const inspection = joinInspections(inspections);
  return {
    inspection,
    ...(comparing ? { findings: comparing.finish() } : { notCompared: reasonFor(options) }),
  };
}

/** One inspection of a tensor from those of its pieces. */
function joinInspections(parts: readonly Inspection[]): Inspection {
  let [blocks, nonFinite] = [0, 0];
  let firstNonFinite: number | undefined;
  const faults = new Map<string, { rule: string; count: number; first: number }>();
  const codes: number[] = [];
  for (const part of parts) {
    if (part.firstNonFinite !== undefined) firstNonFinite ??= blocks + part.firstNonFinite;
    for (const { rule, count, first } of part.impossible) {
      const known = faults.get(rule) ?? { rule, count: 0, first: blocks + first };
      faults.set(rule, { ...known, count: known.count + count });
    }
    part.codes.forEach((count, code) => {
      codes[code] = (codes[code] ?? 0) + count;
    });
    nonFinite += part.nonFinite;
    blocks += part.blocks;
  }
  const unusedCodes = codes.filter((count) => count === 0).length;
  const first = firstNonFinite === undefined ? {} : { firstNonFinite };
  return { blocks, nonFinite, ...first, impossible: [...faults.values()], codes, unusedCodes };
}

/** Equal when the file's values are the source's, or the source's rounded to the file's type. */
async function compareDense(
  file: AuditedFile,
  entry: CheckpointEntry,
  source: AuditedFile,
  from: CheckpointEntry,
): Promise<{ equal: boolean; element?: number }> {
  const columns = entry.shape[entry.shape.length - 1];
  for (const [start, end] of pieces(entry.shape)) {
    const ours = await readValues(source, from, start, end);
    const theirs = await readValues(file, entry, start, end);
    const rounded = widen({
      type: entry.dtype as keyof typeof DENSE_BYTES,
      shape: [ours.length],
      data: narrow(ours, entry.dtype as keyof typeof DENSE_BYTES),
    });
    const at = theirs.findIndex(
      (v, i) => !Object.is(v, rounded[i]) && !(Number.isNaN(v) && Number.isNaN(rounded[i])),
    );
    if (at >= 0) return { equal: false, element: start * columns + at };
  }
  return { equal: true };
}
