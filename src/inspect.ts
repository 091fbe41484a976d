/** What is in a file, whatever its format: metadata, tensors, their hashes. Opening it is the check of its structure. */

import { isDense } from "./dense.js";
import { IsqError } from "./errors.js";
import { ggmlTypeNamed } from "./files/ggml-types.js";
import { openGguf } from "./files/gguf.js";
import { GGUF_MAGIC } from "./files/gguf-header.js";
import type { GgufArray, GgufValue } from "./files/gguf-values.js";
import { openSafetensors, SAFETENSORS_BITS } from "./files/safetensors.js";
import { readQuantizedEntries } from "./files/safetensors-quantized.js";
import { type ByteSource, readRange } from "./files/source.js";
import { hashSource } from "./hash.js";
import { LIMITS } from "./limits.js";
import { type Algorithm, type IsqType, TYPES } from "./quants/table.js";

export interface InspectedTensor {
  readonly name: string;
  /** As the format calls it; ours for types that we can decode. */
  readonly type: string;
  /** Of a quantized tensor, where the file says it. */
  readonly algorithm?: Algorithm;
  readonly shape: readonly number[];
  readonly byteOffset: number;
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
  readonly source: ByteSource;
}

/** A format: how it is told from others, by the first bytes, and how it is read. */
interface Format {
  readonly name: string;
  matches(start: Uint8Array): boolean;
  open(source: ByteSource): Promise<Pick<InspectedFile, "metadata" | "tensors" | "warnings">>;
}

const START_BYTES = 16;

const FORMATS: readonly Format[] = [
  {
    name: "gguf",
    matches: (start) => start.length >= 4 && viewOf(start).getUint32(0, true) === GGUF_MAGIC,
    open: inspectGguf,
  },
  {
    name: "safetensors",
    // A header length that ends in zeros, then a JSON object.
    matches: (start) => start.length >= 9 && start[7] === 0 && start[6] === 0 && start[8] === 0x7b,
    open: inspectSafetensors,
  },
];

/** Opens a file of any known format. Throws `source/format` for another, and the format's own tags. */
export async function inspectFile(source: ByteSource): Promise<InspectedFile> {
  const { name: file, byteLength } = source;
  const start = await readRange(source, 0, Math.min(START_BYTES, byteLength));
  const format = FORMATS.find(({ matches }) => matches(start)) ?? formatOfName(file);
  if (!format) {
    const limit = FORMATS.map(({ name }) => name);
    const message = `${file} does not start as a file of a known format does (${limit.join(", ")})`;
    throw new IsqError("source/format", message, { file, field: "format", limit });
  }
  return { file, format: format.name, byteLength, source, ...(await format.open(source)) };
}

/** Hashes of tensors, by name, in their order. Throws `source/*`, `aborted`. */
export async function hashTensors(
  { source, tensors }: InspectedFile,
  signal?: AbortSignal,
): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  for (const { name, byteOffset: start, byteLength } of tensors) {
    const end = start + byteLength;
    hashes.set(name, await hashSource(source, { start, end, ...(signal && { signal }) }));
  }
  return hashes;
}

/** A damaged start leaves the name to go by, so that its reader says what is wrong. */
function formatOfName(file: string): Format | undefined {
  return FORMATS.find(({ name }) => file.toLowerCase().endsWith(`.${name}`));
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

async function inspectGguf(source: ByteSource) {
  const { metadata, tensors, warnings } = await openGguf(source);
  return {
    metadata: [...metadata].map(([key, value]) => ({
      key,
      type: value.type === "array" ? `array of ${value.items}` : value.type,
      value: plainValue(value),
    })),
    tensors: [...tensors.values()].map(({ name, dtype, shape, byteOffset, byteLength }) => {
      const type = ggmlTypeNamed(dtype);
      const bits = type && type.blockElements > 0 ? (type.blockBytes * 8) / type.blockElements : null;
      return { name, type: type?.isq ?? dtype, shape, byteOffset, byteLength, bitsPerWeight: bits };
    }),
    warnings,
  };
}

async function inspectSafetensors(source: ByteSource) {
  const { metadata, tensors } = await openSafetensors(source);
  const quantized = readQuantizedEntries(source.name, { metadata, tensors }, LIMITS);
  return {
    metadata: [...metadata].map(([key, value]) => ({ key, type: "string", value })),
    tensors: [...tensors.values()].map(({ dtype, ...place }) => {
      const own = quantized.get(place.name);
      if (!own) return { ...place, type: dtype, bitsPerWeight: SAFETENSORS_BITS[dtype] };
      const elements = own.shape.reduce((product, size) => product * size, 1);
      return { ...place, ...own, bitsPerWeight: elements === 0 ? null : (place.byteLength * 8) / elements };
    }),
    warnings: [],
  };
}

function plainValue(value: GgufValue): unknown {
  if (value.type === "array") return plainArray(value);
  return typeof value.value === "bigint" ? plainInteger(value.value) : value.value;
}

function plainArray(array: GgufArray): unknown[] {
  if (array.items === "array") return array.values.map(plainArray);
  if (array.items === "bool") return Array.from(array.values, (value) => value !== 0);
  return Array.from<unknown>(array.values as ArrayLike<unknown>).map((value) =>
    typeof value === "bigint" ? plainInteger(value) : value,
  );
}

function plainInteger(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

/** Whether tensors of a type can be decoded. */
export function isDecodable(type: string): boolean {
  return isDense(type) || (Object.hasOwn(TYPES, type) && TYPES[type as IsqType].family === "block");
}
