/** What is in a file, whatever its format: metadata, tensors, their hashes. Opening it is the check of its structure. */

import { isDense } from "./dense.js";
import { checkAborted, IsqError } from "./errors.js";
import { GGUF_MAGIC } from "./files/gguf-header.js";
import { type ByteSource, readRange } from "./files/source.js";
import { hashPieces } from "./hash.js";
import { inspectGguf, inspectImatrix, inspectSafetensors, inspectUqff } from "./inspect-formats.js";
import { type Algorithm, type IsqType, TYPES } from "./quants/table.js";

export interface InspectedTensor {
  readonly name: string;
  /** As the format calls it; ours for types that we can decode. */
  readonly type: string;
  /** Of a quantized tensor, where the file says it. */
  readonly algorithm?: Algorithm;
  readonly shape: readonly number[];
  /** Null where a file has no plain place for it, as importance matrices. */
  readonly byteOffset: number | null;
  readonly byteLength: number;
  /** Null for types of unknown layout and tensors without elements. */
  readonly bitsPerWeight: number | null;
}

export interface InspectedValue {
  readonly key: string;
  readonly type: string;
  /** Plain data: arrays of numbers and texts as such, 64-bit integers as numbers where they are safe, else as text. */
  readonly value: unknown;
}

export interface InspectedFile {
  readonly file: string;
  readonly format: string;
  readonly byteLength: number;
  readonly metadata: readonly InspectedValue[];
  /** In the order of the file's header. */
  readonly tensors: readonly InspectedTensor[];
  /** Legal oddities, in words. */
  readonly warnings: readonly string[];
  /** Bytes `start` to `end` of a tensor's data. Throws `source/*`. */
  readRange(tensor: InspectedTensor, start: number, end: number): Promise<Uint8Array>;
}

/** What a reader tells of a file. Without `readRange`, tensors lie where their offsets say. */
export type Inspection = Pick<InspectedFile, "metadata" | "tensors" | "warnings"> &
  Partial<Pick<InspectedFile, "readRange">>;

/** A format: how it is told from others, by the first bytes and the name, and how it is read. */
interface Format {
  readonly name: string;
  /** Of names, the main one first. */
  readonly endings: readonly string[];
  matches(start: Uint8Array, ending: string): boolean;
  open(source: ByteSource): Promise<Inspection>;
}

const START_BYTES = 16;

// A header length that ends in zeros, then a JSON object.
const isSafetensors = (start: Uint8Array) =>
  start.length >= 9 && start[7] === 0 && start[6] === 0 && start[8] === 0x7b;

const FORMATS: readonly Format[] = [
  {
    name: "gguf",
    endings: ["gguf"],
    matches: (start) => start.length >= 4 && viewOf(start).getUint32(0, true) === GGUF_MAGIC,
    open: inspectGguf,
  },
  {
    name: "uqff",
    endings: ["uqff"],
    matches: (start, ending) => ending === "uqff" && isSafetensors(start),
    open: inspectUqff,
  },
  {
    name: "safetensors",
    endings: ["safetensors"],
    matches: isSafetensors,
    open: inspectSafetensors,
  },
  {
    // These have nothing to be known by but their names.
    name: "imatrix",
    endings: ["imatrix", "cimatrix", "dat"],
    matches: () => false,
    open: inspectImatrix,
  },
];

/** Opens a file of any known format. Throws `source/format` for another, and the format's own tags. */
export async function inspectFile(source: ByteSource): Promise<InspectedFile> {
  const { name: file, byteLength } = source;
  const start = await readRange(source, 0, Math.min(START_BYTES, byteLength));
  const ending = /\.(\w+)$/.exec(file.toLowerCase())?.[1] ?? "";
  // A damaged start leaves the name to go by, so that its reader says what is wrong.
  const format =
    FORMATS.find(({ matches }) => matches(start, ending)) ??
    FORMATS.find(({ endings }) => endings.includes(ending));
  if (!format) {
    const limit = FORMATS.map(({ name }) => name);
    const message = `${file} does not start as a file of a known format does (${limit.join(", ")})`;
    throw new IsqError("source/format", message, { file, field: "format", limit });
  }
  const inPlace = ({ byteOffset }: InspectedTensor, from: number, to: number) =>
    readRange(source, byteOffset! + from, byteOffset! + to);
  return { file, format: format.name, byteLength, readRange: inPlace, ...(await format.open(source)) };
}

const HASHED_BYTES = 4 * 2 ** 20;

/** Hashes of tensors, by name, in their order. Throws `source/*`, `aborted`. */
export async function hashTensors(
  file: Pick<InspectedFile, "tensors" | "readRange">,
  signal?: AbortSignal,
): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  for (const tensor of file.tensors) {
    const pieces = async function* () {
      for (let at = 0; at < tensor.byteLength; at += HASHED_BYTES) {
        checkAborted(signal);
        yield file.readRange(tensor, at, Math.min(tensor.byteLength, at + HASHED_BYTES));
      }
    };
    hashes.set(tensor.name, await hashPieces(pieces()));
  }
  return hashes;
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** Whether tensors of a type can be decoded. */
export function isDecodable(type: string): boolean {
  return isDense(type) || (Object.hasOwn(TYPES, type) && TYPES[type as IsqType].family === "block");
}
