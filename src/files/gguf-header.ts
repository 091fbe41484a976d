/**
 * The header of a GGUF file, version 3, little-endian: magic, version, counts, metadata, tensor entries. Stricter than ggml
 * where readers disagree (keys are plain ASCII, names have no control characters, alignment is capped); more lenient where
 * nothing can go wrong (gaps and another order of the data, types that are not known: such tensors are listed only).
 */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import type { Limits } from "../limits.js";
import { type Cursor, openCursor } from "./cursor.js";
import {
  ALIGNMENT_KEY,
  DEFAULT_ALIGNMENT,
  GGUF_ITEM_BYTES,
  GGUF_VALUE_TYPES,
  GGUF_VIEWS,
  type GgufArray,
  type GgufValue,
  type GgufValueType,
  isPlainKey,
  isPlainName,
} from "./gguf-values.js";
import { quote } from "./json.js";

export interface GgufEntry {
  readonly name: string;
  /** ggml's name of the type; `#77` for a number that ggml has not given out. */
  readonly dtype: string;
  readonly typeId: number;
  /** Row-major, outermost dimension first: the reverse of the file. */
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly byteOffset: number;
  /** For types without known layout: the bytes up to the next tensor. */
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** In the order of the file's entries. */
  readonly tensors: ReadonlyMap<string, GgufEntry>;
  readonly alignment: number;
  /** Where tensor data starts. */
  readonly dataOffset: number;
  /** Legal oddities, in words. */
  readonly warnings: readonly string[];
}

/** What is known of the file while its header is read. */
export interface GgufContext {
  readonly file: string;
  readonly fileByteLength: number;
  readonly limits: Limits;
}

interface Reader extends GgufContext {
  readonly cursor: Cursor;
  readonly warnings: string[];
  /** Strings and inner arrays that may still come. */
  objects: number;
}

export interface RawEntry {
  readonly name: string;
  readonly typeId: number;
  readonly shape: readonly number[];
  /** From the start of the data. */
  readonly offset: number;
}

export const GGUF_MAGIC = 0x46554747; // "GGUF"
export const GGUF_VERSION = 3;

const TAGS = { end: "gguf/truncated", integer: "gguf/count", text: "gguf/text" } as const;
/** Fewest bytes of a metadata entry (key length, type, one byte) and of a tensor entry (length, rank, type, offset). */
const KEY_ENTRY_BYTES = 8 + 4 + 1;
const TENSOR_ENTRY_BYTES = 8 + 4 + 4 + 8;

/** A header as it was read, before its tensors are placed in the file. */
export interface RawHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly entries: readonly RawEntry[];
  readonly alignment: number;
  /** Bytes before the padding in front of the data. */
  readonly byteLength: number;
  readonly warnings: readonly string[];
}

/**
 * Reads a header. `bytes` are the start of the file: all of it, or enough. Throws `gguf/truncated` when they end before the
 * header does (and in no other case), and the tags of everything else that can be wrong with single values.
 */
export function readGgufHeader(bytes: Uint8Array, context: GgufContext): RawHeader {
  const cursor = openCursor(bytes, { file: context.file, tags: TAGS });
  const reader: Reader = { ...context, cursor, warnings: [], objects: context.limits.ggufArrayObjects };
  readVersion(reader);
  const tensorCount = readCount(reader, "the tensor count", TENSOR_ENTRY_BYTES, context.limits.ggufTensors);
  const keyCount = readCount(reader, "the metadata count", KEY_ENTRY_BYTES, context.limits.ggufKeys);
  const metadata = readMetadata(reader, keyCount);
  const alignment = readAlignment(reader, metadata.get(ALIGNMENT_KEY));
  const entries = repeat(tensorCount, () => readEntry(reader));
  return { metadata, entries, alignment, byteLength: cursor.byteOffset, warnings: reader.warnings };
}

function readVersion(reader: Reader): void {
  const { cursor } = reader;
  const magic = cursor.u32("the magic number");
  if (magic !== GGUF_MAGIC) {
    const hex = `0x${magic.toString(16).padStart(8, "0")}`;
    const swapped = magic === 0x47475546;
    const message = swapped ? "the file is a big-endian GGUF file" : `${hex} is not the magic number of GGUF`;
    refuseGguf(reader, swapped ? "gguf/byte-order" : "gguf/magic", message, { field: "magic", value: hex });
  }
  const version = cursor.u32("the version");
  const details = { field: "version", value: version, limit: GGUF_VERSION };
  if (version !== 0 && (version & 0xffff) === 0) {
    const message = "the file is a big-endian GGUF file; convert it to little-endian";
    refuseGguf(reader, "gguf/byte-order", message, details);
  }
  if (version !== GGUF_VERSION) {
    const message = `GGUF version ${version} is not supported; convert the file to version ${GGUF_VERSION}`;
    refuseGguf(reader, "gguf/version", message, details);
  }
}

/** Reads how many things follow, each of which takes at least `itemBytes`. */
function readCount(reader: Reader, field: string, itemBytes: number, cap: number): number {
  const { cursor, fileByteLength } = reader;
  const count = cursor.u64(field);
  const limit = Math.min(cap, Math.floor((fileByteLength - cursor.byteOffset) / itemBytes));
  if (count > limit) {
    const message = `${field} is ${count}, and no more than ${limit} can be`;
    refuseGguf(reader, "gguf/count", message, { field, value: count, limit });
  }
  return count;
}

function readText(reader: Reader, field: string, cap: number): string {
  return reader.cursor.text(readCount(reader, `the length of ${field}`, 1, cap), field);
}

function readMetadata(reader: Reader, count: number): ReadonlyMap<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const key = readText(reader, "a metadata key", reader.limits.ggufKeyBytes);
    if (!isPlainKey(key)) {
      refuseGguf(reader, "gguf/key", `${quote(key)} is no key for metadata`, { field: "key", value: key });
    }
    if (metadata.has(key)) {
      refuseGguf(reader, "gguf/duplicate", `the key ${quote(key)} comes twice`, { field: key, value: key });
    }
    metadata.set(key, readValue(reader, key));
  }
  return metadata;
}

function readValueType(reader: Reader, key: string): GgufValueType {
  const id = reader.cursor.u32(`the type of ${key}`);
  const type = GGUF_VALUE_TYPES[id];
  if (type !== undefined) return type;
  return refuseGguf(reader, "gguf/value-type", `${key} has the unknown type ${id}`, {
    field: key,
    value: id,
  });
}

function readValue(reader: Reader, key: string): GgufValue {
  const { cursor } = reader;
  const type = readValueType(reader, key);
  switch (type) {
    case "string":
      return { type, value: readText(reader, key, reader.limits.ggufStringBytes) };
    case "array":
      return readArray(reader, key, 1);
    case "bool":
      return { type, value: readBool(reader, key) };
    case "u64":
      return { type, value: cursor.bigU64(key) };
    case "i64":
      return { type, value: cursor.bigI64(key) };
    default:
      return { type, value: cursor[type](key) };
  }
}

function readBool(reader: Reader, key: string): boolean {
  const byte = reader.cursor.u8(key);
  if (byte > 1) reader.warnings.push(`${key} is a bool of the value ${byte}, taken as true`);
  return byte !== 0;
}

function readArray(reader: Reader, key: string, depth: number): GgufArray {
  const { cursor, limits } = reader;
  const type = "array";
  if (depth > limits.ggufArrayDepth) {
    const message = `${key} has arrays inside arrays, more than ${limits.ggufArrayDepth} deep`;
    refuseGguf(reader, "gguf/value-type", message, {
      field: key,
      value: depth,
      limit: limits.ggufArrayDepth,
    });
  }
  const items = readValueType(reader, key);
  const field = `the length of ${key}`;
  const itemBytes = GGUF_ITEM_BYTES[items];
  if (items === "string" || items === "array") {
    const count = readCount(reader, field, itemBytes, reader.objects);
    reader.objects -= count;
    return items === "string"
      ? { type, items, values: repeat(count, () => readText(reader, key, limits.ggufStringBytes)) }
      : { type, items, values: repeat(count, () => readArray(reader, key, depth + 1)) };
  }
  const count = readCount(reader, field, itemBytes, limits.ggufArrayItems);
  // Copied: a view would hold the whole header, and needs an aligned start.
  const bytes = cursor.bytes(count * itemBytes, key).slice();
  if (items === "bool") normalizeBools(reader, key, bytes);
  return { type, items, values: new GGUF_VIEWS[items](bytes.buffer) } as GgufArray;
}

function normalizeBools(reader: Reader, key: string, bytes: Uint8Array): void {
  if (!bytes.some((byte) => byte > 1)) return;
  reader.warnings.push(`${key} has bools of other values than 0 and 1, taken as true`);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.min(bytes[i], 1);
}

function repeat<Item>(count: number, read: () => Item): Item[] {
  // Grown, not allocated: the count is not proven until the items are there.
  const items: Item[] = [];
  for (let i = 0; i < count; i++) items.push(read());
  return items;
}

function readAlignment(reader: Reader, value: GgufValue | undefined): number {
  if (value === undefined) return DEFAULT_ALIGNMENT;
  const limit = reader.limits.ggufAlignment;
  if (value.type === "u32" && isAlignment(value.value, limit)) return value.value;
  const shown = value.type === "array" ? "an array" : String(value.value);
  const message = `${ALIGNMENT_KEY} is ${shown} (${value.type}), and must be a power of two up to ${limit} (u32)`;
  return refuseGguf(reader, "gguf/alignment", message, { field: ALIGNMENT_KEY, value: shown, limit });
}

/** Whether a number is a power of two up to `limit`. */
export function isAlignment(value: number, limit: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= limit && (value & (value - 1)) === 0;
}

function readEntry(reader: Reader): RawEntry {
  const { cursor, limits } = reader;
  const name = readText(reader, "a tensor name", limits.ggufNameBytes);
  if (!isPlainName(name)) {
    refuseGguf(reader, "gguf/name", `${quote(name)} is no name for a tensor`, {
      tensor: name,
      field: "name",
    });
  }
  const rank = cursor.u32(`the rank of ${quote(name)}`);
  if (rank > limits.ggufRank) {
    const message = `${quote(name)} has ${rank} dimensions, more than ${limits.ggufRank}`;
    refuseGguf(reader, "gguf/shape", message, {
      tensor: name,
      field: "rank",
      value: rank,
      limit: limits.ggufRank,
    });
  }
  const shape: number[] = [];
  for (let i = 0; i < rank; i++) shape.unshift(readSize(reader, name, "dimension", "gguf/shape"));
  const typeId = cursor.u32(`the type of ${quote(name)}`);
  return { name, typeId, shape, offset: readSize(reader, name, "offset", "gguf/offsets") };
}

function readSize(reader: Reader, tensor: string, field: string, tag: ErrorTag): number {
  const size = reader.cursor.bigU64(`the ${field} of ${quote(tensor)}`);
  if (size <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(size);
  const details = { tensor, field, value: String(size), limit: Number.MAX_SAFE_INTEGER };
  return refuseGguf(reader, tag, `${quote(tensor)} has the ${field} ${size}`, details);
}

export function refuseGguf(
  context: GgufContext,
  tag: ErrorTag,
  message: string,
  details: ErrorDetails,
): never {
  throw new IsqError(tag, `${context.file}: ${message}`, { file: context.file, ...details });
}
