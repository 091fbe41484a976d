/**
 * safetensors: u64 header length, JSON header, data. Reading and writing side by side, to the rules of the reference
 * reader (huggingface/safetensors): no holes, no overlap, no duplicate keys, every byte owned by one tensor.
 */

import { type ErrorTag, IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { type Json, JsonSyntaxError, parseJson, readCount } from "./json.js";
import { type ByteSource, readRange } from "./source.js";

/** Bits per element of every dtype of the format. */
export const SAFETENSORS_BITS: Readonly<Record<string, number>> = Object.freeze({
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
});

export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface Safetensors {
  readonly source: ByteSource;
  /** `__metadata__`, or empty. */
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of their data. */
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  /** Bytes of one tensor. */
  read(name: string): Promise<Uint8Array>;
}

/** Reads and checks the header; no data. Throws `safetensors/*` or `source/*`. */
export async function openSafetensors(source: ByteSource): Promise<Safetensors> {
  const { text, dataOffset } = await readHeader(source);
  const refuse = (tag: ErrorTag, message: string, details: Record<string, unknown> = {}): never => {
    throw new IsqError(tag, `${source.name}: ${message}`, { file: source.name, ...details });
  };
  const { metadata, entries } = parseHeader(text, dataOffset, refuse);
  const tensors = checkLayout(entries, dataOffset, source.byteLength, refuse);
  return {
    source,
    metadata,
    tensors,
    async read(name) {
      const entry =
        tensors.get(name) ?? refuse("tensor/missing", `there is no tensor ${name}`, { tensor: name });
      return readRange(source, entry.byteOffset, entry.byteOffset + entry.byteLength);
    },
  };
}

async function readHeader(source: ByteSource): Promise<{ text: string; dataOffset: number }> {
  const { name, byteLength } = source;
  if (byteLength < 8) {
    const message = `${name}: ${byteLength} bytes are too few for a header length`;
    throw new IsqError("safetensors/truncated", message, { file: name, value: byteLength, limit: 8 });
  }
  const prefix = await readRange(source, 0, 8);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  const limit = Math.min(LIMITS.safetensorsHeaderBytes, byteLength - 8);
  if (length === 0n || length > BigInt(limit)) {
    const message = `${name}: the header length ${length} is not between 1 and ${limit}`;
    throw new IsqError("safetensors/header-length", message, {
      file: name,
      field: "headerLength",
      value: String(length),
      limit,
    });
  }
  const dataOffset = 8 + Number(length);
  const bytes = await readRange(source, 8, dataOffset);
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), dataOffset };
  } catch (cause) {
    const message = `${name}: the header is not UTF-8`;
    throw new IsqError("safetensors/header-json", message, { file: name, field: "header" }, { cause });
  }
}

type Refuse = (tag: ErrorTag, message: string, details?: Record<string, unknown>) => never;

function parseHeader(text: string, dataOffset: number, refuse: Refuse) {
  if (!text.startsWith("{"))
    refuse("safetensors/header-json", 'the header does not start with "{"', { field: "header" });
  let header: Json;
  try {
    header = parseJson(text, LIMITS.safetensorsHeaderDepth);
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error;
    return refuse("safetensors/header-json", `the header is not JSON: ${error.message}`, { field: "header" });
  }
  const metadata = new Map<string, string>();
  const entries: SafetensorsEntry[] = [];
  for (const [name, value] of objectEntries(header, "header", refuse)) {
    if (name === "__metadata__") readMetadata(value, metadata, refuse);
    else entries.push(readEntry(name, value, dataOffset, refuse));
  }
  return { metadata, entries };
}

/** The entries of an object; refuses other kinds and keys that come twice. */
function objectEntries(value: Json, what: string, refuse: Refuse): readonly (readonly [string, Json])[] {
  if (value.kind !== "object")
    return refuse("safetensors/header-json", `${what} is not an object`, { field: what });
  const seen = new Set<string>();
  for (const [key] of value.entries) {
    if (seen.has(key)) {
      refuse("safetensors/duplicate-key", `${what} names ${JSON.stringify(key)} twice`, {
        field: what,
        value: key,
      });
    }
    seen.add(key);
  }
  return value.entries;
}

function readMetadata(value: Json, metadata: Map<string, string>, refuse: Refuse): void {
  if (value.kind !== "object") {
    refuse("safetensors/metadata", "__metadata__ is not an object", { field: "__metadata__" });
  }
  for (const [key, item] of objectEntries(value, "__metadata__", refuse)) {
    if (item.kind === "string") metadata.set(key, item.text);
    else {
      refuse("safetensors/metadata", `__metadata__ has a ${item.kind} at ${JSON.stringify(key)}`, {
        field: `__metadata__.${key}`,
        value: item.kind,
        limit: "string",
      });
    }
  }
}

function readEntry(name: string, value: Json, dataOffset: number, refuse: Refuse): SafetensorsEntry {
  const fields = new Map(objectEntries(value, `tensor ${JSON.stringify(name)}`, refuse));
  const dtype = fields.get("dtype");
  if (dtype?.kind !== "string" || !Object.hasOwn(SAFETENSORS_BITS, dtype.text)) {
    const given = dtype?.kind === "string" ? dtype.text : (dtype?.kind ?? "nothing");
    return refuse("safetensors/dtype", `tensor ${name} has the unknown dtype ${given}`, {
      tensor: name,
      field: "dtype",
      value: given,
      limit: Object.keys(SAFETENSORS_BITS),
    });
  }
  const shape = readCounts(fields.get("shape"));
  if (shape === null || shape.length > LIMITS.tensorRank) {
    return refuse(
      "safetensors/shape",
      `the shape of ${name} is not a list of at most ${LIMITS.tensorRank} sizes`,
      {
        tensor: name,
        field: "shape",
        limit: LIMITS.tensorRank,
      },
    );
  }
  const offsets = readCounts(fields.get("data_offsets"));
  if (offsets?.length !== 2 || offsets[0] > offsets[1]) {
    return refuse("safetensors/offsets", `the data offsets of ${name} are not two ascending sizes`, {
      tensor: name,
      field: "data_offsets",
      value: offsets,
    });
  }
  const byteLength = offsets[1] - offsets[0];
  const wanted = sizeOf(shape, SAFETENSORS_BITS[dtype.text]);
  if (wanted !== byteLength) {
    const size = wanted === null ? "an impossible number of" : wanted;
    return refuse(
      "safetensors/size",
      `${name} is ${dtype.text} [${shape.join(", ")}], which takes ${size} bytes, and has ${byteLength}`,
      { tensor: name, field: "data_offsets", value: byteLength, limit: wanted },
    );
  }
  return { name, dtype: dtype.text, shape, byteOffset: dataOffset + offsets[0], byteLength };
}

/** Bytes of a tensor; null where they are not whole or not exactly representable. */
function sizeOf(shape: readonly number[], bits: number): number | null {
  let product = 1n;
  for (const size of shape) product *= BigInt(size);
  const total = product * BigInt(bits);
  return total % 8n === 0n && total / 8n <= BigInt(LIMITS.safeInteger) ? Number(total / 8n) : null;
}

function readCounts(value: Json | undefined): number[] | null {
  if (value?.kind !== "array") return null;
  const counts = value.items.map(readCount);
  return counts.every((count) => count !== null) ? counts : null;
}

/** Orders tensors by their data and refuses holes, overlaps and bytes that nobody owns. */
function checkLayout(
  entries: readonly SafetensorsEntry[],
  dataOffset: number,
  fileBytes: number,
  refuse: Refuse,
): ReadonlyMap<string, SafetensorsEntry> {
  const ordered = [...entries].sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = dataOffset;
  for (const entry of ordered) {
    if (entry.byteOffset + entry.byteLength > fileBytes) {
      refuse("safetensors/truncated", `the data of ${entry.name} ends beyond the file`, {
        tensor: entry.name,
        field: "data_offsets",
        value: entry.byteOffset + entry.byteLength,
        limit: fileBytes,
      });
    }
    if (entry.byteOffset !== end) {
      const what = entry.byteOffset < end ? "overlaps the tensor before it" : "leaves a hole before it";
      refuse("safetensors/offsets", `the data of ${entry.name} ${what}`, {
        tensor: entry.name,
        field: "data_offsets",
        value: entry.byteOffset - dataOffset,
        limit: end - dataOffset,
      });
    }
    end += entry.byteLength;
  }
  if (end !== fileBytes) {
    refuse("safetensors/offsets", `${fileBytes - end} bytes after the last tensor belong to nobody`, {
      field: "data_offsets",
      value: fileBytes - end,
      limit: 0,
    });
  }
  return new Map(ordered.map((entry) => [entry.name, entry]));
}

/** A tensor to write. */
export interface SafetensorsTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/**
 * Writes a file: tensors by descending element size, then by name, as the reference writer orders them, so that the same
 * tensors give the same bytes; the header is padded with spaces to a multiple of 8.
 */
export function writeSafetensors(
  tensors: readonly SafetensorsTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const ordered = [...tensors].sort(
    (a, b) => SAFETENSORS_BITS[b.dtype] - SAFETENSORS_BITS[a.dtype] || (a.name < b.name ? -1 : 1),
  );
  const header: [string, unknown][] = Object.keys(metadata).length > 0 ? [["__metadata__", metadata]] : [];
  let end = 0;
  for (const { name, dtype, shape, data } of ordered) {
    if (sizeOf(shape, SAFETENSORS_BITS[dtype]) !== data.byteLength) {
      const message = `${name} is ${dtype} [${shape.join(", ")}] and has ${data.byteLength} bytes`;
      throw new IsqError("safetensors/size", message, {
        tensor: name,
        field: "data",
        value: data.byteLength,
      });
    }
    header.push([name, { dtype, shape, data_offsets: [end, end + data.byteLength] }]);
    end += data.byteLength;
  }
  // Object.fromEntries defines own properties, so a tensor called __proto__ is written like any other.
  const json = JSON.stringify(Object.fromEntries(header));
  const text = new TextEncoder().encode(json);
  const headerLength = Math.ceil(text.byteLength / 8) * 8;
  const file = new Uint8Array(8 + headerLength + end).fill(0x20, 8, 8 + headerLength);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerLength), true);
  file.set(text, 8);
  let at = 8 + headerLength;
  for (const { data } of ordered) {
    file.set(data, at);
    at += data.byteLength;
  }
  return file;
}
