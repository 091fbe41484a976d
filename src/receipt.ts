/**
 * Receipts: what each tensor of a quantized file was made of and how, with a sha256 of every input and output and the byte
 * ranges they have in their files, so that anyone can check one tensor by range requests alone.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { checkAborted, IsqError } from "./errors.js";
import type { ByteSource } from "./files/source.js";
import { hashSource } from "./hash.js";
import type { OpenedModel } from "./load.js";
import type { Plan, PlanRow } from "./plan.js";
import { importanceOf } from "./quantize.js";
import { type OutputPlace, type Place, rangeOf } from "./receipt-places.js";

export const RECEIPT_FORMAT = "isq-receipt/1";
/** How the text of every receipt begins. */
export const RECEIPT_START = `{"format":"${RECEIPT_FORMAT}"`;

/** Bytes of a file and their hash. */
export interface HashedRange {
  /** Name in its folder; null when the tensor lies in no plain file, and then the offset is null as well. */
  readonly file: string | null;
  readonly byteOffset: number | null;
  readonly byteLength: number;
  /** Hex. */
  readonly sha256: string;
}

/** Rows of a matrix are stored in another order than the encoder made them: pairs of each head interleaved. */
export interface RowOrder {
  readonly order: "interleaved";
  readonly heads: number;
}

/** One tensor: its source, its plan and its output. */
export interface ReceiptTensor {
  readonly tensor: string;
  readonly shape: readonly number[];
  readonly source: HashedRange & { readonly name: string; readonly type: string };
  /** sha256 (hex) of the importance as binary32 little-endian; null when none was used. */
  readonly importance: string | null;
  /**
   * What was done: the row of the plan. `algorithm` is null for tensors that were kept; `sha256` is that of the whole row as
   * JSON, as a printed plan has it.
   */
  readonly plan: Pick<PlanRow, "type" | "algorithm" | "importance"> & { readonly sha256: string };
  /** `type` is that of the file: dense tensors may be stored wider than the plan has them. */
  readonly output: HashedRange & {
    readonly type: string;
    readonly rows: RowOrder | null;
    /** Scales and zeros that lie apart from the codes, each with the suffix that its name has in the file. */
    readonly sides?: readonly (HashedRange & { readonly suffix: string })[];
  };
}

/** A file that a receipt is about. */
export interface OutputFile {
  readonly file: string;
  readonly byteLength: number;
}

/** What each tensor of a file was made of, by sha256, for others to check. */
export interface Receipt {
  readonly format: typeof RECEIPT_FORMAT;
  /** The plan's own hash. */
  readonly plan: string;
  /** The file; of a set, its first shard, and then its others. */
  readonly output: OutputFile & { readonly others?: readonly OutputFile[] };
  readonly tensors: readonly ReceiptTensor[];
}

/** What {@link makeReceipt} needs to know. */
export interface ReceiptRequest {
  readonly plan: Plan;
  readonly checkpoint: Pick<OpenedModel["checkpoint"], "read" | "locate">;
  /** Their names are the ones that the receipt gives. Several for a set. */
  readonly output: ByteSource | readonly ByteSource[];
  readonly places: ReadonlyMap<string, OutputPlace>;
  readonly importance?: ReadonlyMap<string, Float32Array>;
  readonly signal?: AbortSignal;
}

/** Reads every tensor's source and output once and hashes them. Throws `source/*`, `tensor/missing`, `aborted`. */
export async function makeReceipt(request: ReceiptRequest): Promise<Receipt> {
  const { plan, places, signal } = request;
  const tensors: ReceiptTensor[] = [];
  for (const row of plan.rows) {
    checkAborted(signal);
    const place = places.get(row.tensor);
    if (place) tensors.push(await receiptOf(row, place, request));
  }
  const [first, ...others] = outputsOf(request).map(({ name, byteLength }) => {
    return { file: baseName(name), byteLength };
  });
  const output = { ...first, ...(others.length > 0 && { others }) };
  return { format: RECEIPT_FORMAT, plan: plan.hash, output, tensors };
}

const outputsOf = ({ output }: ReceiptRequest): readonly ByteSource[] =>
  "name" in output ? [output] : output;

async function receiptOf(row: PlanRow, place: OutputPlace, request: ReceiptRequest): Promise<ReceiptTensor> {
  const { checkpoint, importance } = request;
  const output = outputsOf(request)[place.file ?? 0];
  const { tensor, shape, source, type, algorithm } = row;
  const bytes = await checkpoint.read(source.name);
  const at = checkpoint.locate(source.name);
  const used = importanceOf(row, importance);
  const file = baseName(output.name);
  const range = async (of: Place) => ({ file, ...rangeOf(of), sha256: await hashRange(output, of) });
  const sides: (HashedRange & { suffix: string })[] = [];
  for (const side of place.sides ?? []) sides.push({ suffix: side.suffix, ...(await range(side)) });
  return {
    tensor,
    shape,
    source: {
      name: source.name,
      type: source.type,
      file: at && baseName(at.path),
      byteOffset: at ? at.byteOffset : null,
      byteLength: bytes.length,
      sha256: hashOf(bytes),
    },
    importance: used ? hashOfValues(used) : null,
    plan: { type, algorithm, importance: row.importance, sha256: hashOfRow(row) },
    output: {
      ...(await range(place)),
      type: place.type,
      rows: place.rows,
      ...(sides.length > 0 && { sides }),
    },
  };
}

const baseName = (path: string): string => path.split(/[\\/]/).at(-1) as string;

export const hashOf = (bytes: Uint8Array): string => bytesToHex(sha256(bytes));

/** Of values as binary32 little-endian. */
export function hashOfValues(values: Float32Array): string {
  const bytes = new Uint8Array(4 * values.length);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    view.setFloat32(4 * i, value, true);
  });
  return hashOf(bytes);
}

/** Of a plan's row as JSON. */
export const hashOfRow = (row: PlanRow): string => hashOf(utf8ToBytes(JSON.stringify(row)));

/** sha256 of a range of a source. */
export const hashRange = (source: ByteSource, { byteOffset: start, byteLength }: Place): Promise<string> =>
  hashSource(source, { start, end: start + byteLength });

/** The receipt as text: one line per tensor, so that receipts can be compared and searched by line. */
export function formatReceipt({ tensors, ...head }: Receipt): string {
  const lines = tensors.map((tensor) => `  ${JSON.stringify(tensor)}`);
  return `${JSON.stringify(head).slice(0, -1)},"tensors":[\n${lines.join(",\n")}\n]}\n`;
}

/** Throws `receipt/invalid` for anything but a receipt. */
export function parseReceipt(text: string, file = "receipt"): Receipt {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(file, `is not JSON: ${(cause as Error).message}`, "", undefined);
  }
  const check = new Checker(file);
  const receipt = check.object(value, "");
  if (receipt["format"] !== RECEIPT_FORMAT)
    throw invalid(file, `is not ${RECEIPT_FORMAT}`, "format", receipt["format"]);
  check.hash(receipt["plan"], "plan");
  const output = check.object(receipt["output"], "output");
  check.outputFile(output, "output");
  const others = output["others"] ?? [];
  if (!Array.isArray(others)) throw invalid(file, "has no list of other files", "output.others", others);
  others.forEach((other, i) => {
    check.outputFile(check.object(other, `output.others[${i}]`), `output.others[${i}]`);
  });
  if (!Array.isArray(receipt["tensors"]))
    throw invalid(file, "has no list of tensors", "tensors", receipt["tensors"]);
  receipt["tensors"].forEach((tensor, i) => {
    check.tensor(tensor, `tensors[${i}]`);
  });
  return value as Receipt;
}

const invalid = (file: string, problem: string, field: string, value: unknown): IsqError =>
  new IsqError("receipt/invalid", `${file} ${problem}`, { file, field, value });

/** Checks the shape of parsed JSON, field by field. */
class Checker {
  constructor(private readonly file: string) {}

  private fail(field: string, wanted: string, value: unknown): never {
    throw invalid(this.file, `has a ${field || "content"} that is not ${wanted}`, field, value);
  }

  object(value: unknown, field: string): Record<string, unknown> {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      this.fail(field, "an object", value);
    return value as Record<string, unknown>;
  }

  text(value: unknown, field: string): void {
    if (typeof value !== "string" || value === "") this.fail(field, "a text", value);
  }

  outputFile(value: Record<string, unknown>, field: string): void {
    this.text(value["file"], `${field}.file`);
    this.count(value["byteLength"], `${field}.byteLength`);
  }

  hash(value: unknown, field: string): void {
    if (typeof value !== "string" || !/^[0-9a-f]{64}$/.test(value))
      this.fail(field, "a sha256 in hex", value);
  }

  count(value: unknown, field: string): void {
    if (!Number.isSafeInteger(value) || (value as number) < 0) this.fail(field, "a count", value);
  }

  private range(value: unknown, field: string): Record<string, unknown> {
    const range = this.object(value, field);
    this.count(range["byteLength"], `${field}.byteLength`);
    this.hash(range["sha256"], `${field}.sha256`);
    if (range["file"] === null && range["byteOffset"] === null) return range;
    // A plain name in a folder: anything else could leave it (CWE-22).
    if (typeof range["file"] !== "string" || !/^\w[\w.-]*$/.test(range["file"])) {
      this.fail(`${field}.file`, "a plain file name", range["file"]);
    }
    this.count(range["byteOffset"], `${field}.byteOffset`);
    return range;
  }

  private sides(value: unknown, field: string): void {
    if (!Array.isArray(value)) this.fail(field, "a list", value);
    (value as unknown[]).forEach((side, i) => {
      this.text(this.range(side, `${field}[${i}]`)["suffix"], `${field}[${i}].suffix`);
    });
  }

  tensor(value: unknown, field: string): void {
    const tensor = this.object(value, field);
    this.text(tensor["tensor"], `${field}.tensor`);
    if (!Array.isArray(tensor["shape"])) this.fail(`${field}.shape`, "a list", tensor["shape"]);
    for (const size of tensor["shape"] as unknown[]) this.count(size, `${field}.shape`);
    const source = this.range(tensor["source"], `${field}.source`);
    this.text(source["name"], `${field}.source.name`);
    this.text(source["type"], `${field}.source.type`);
    if (tensor["importance"] !== null) this.hash(tensor["importance"], `${field}.importance`);
    const plan = this.object(tensor["plan"], `${field}.plan`);
    this.text(plan["type"], `${field}.plan.type`);
    if (plan["algorithm"] !== null) this.text(plan["algorithm"], `${field}.plan.algorithm`);
    this.hash(plan["sha256"], `${field}.plan.sha256`);
    const output = this.range(tensor["output"], `${field}.output`);
    this.text(output["type"], `${field}.output.type`);
    this.sides(output["sides"] ?? [], `${field}.output.sides`);
    if (output["rows"] === null) return;
    const rows = this.object(output["rows"], `${field}.output.rows`);
    if (rows["order"] !== "interleaved")
      this.fail(`${field}.output.rows.order`, "interleaved", rows["order"]);
    this.count(rows["heads"], `${field}.output.rows.heads`);
  }
}
