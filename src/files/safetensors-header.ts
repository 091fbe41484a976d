/**
 * The JSON header of a safetensors file, checked to the rules of the reference reader (huggingface/safetensors 0.8): no
 * holes, no overlap, every byte owned by one tensor, whole bytes, no overflow, fields beyond the three of a tensor
 * ignored. Stricter than that reader where readers would disagree: the header starts with "{", no key comes twice,
 * `__metadata__` is an object, numbers are safe integers, rank, names and counts are capped.
 */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import type { Limits } from "../limits.js";
import {
  finishJson,
  type JsonCursor,
  JsonError,
  openJson,
  peekKind,
  quote,
  readArray,
  readCount,
  readObject,
  readString,
  skipValue,
} from "./json.js";

/** Bits per element of every dtype, in the order of the reference writer, which puts later ones first. */
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
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
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

export const METADATA_KEY = "__metadata__";

export interface SafetensorsEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  /** `__metadata__`, or empty. */
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of their data. */
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
}

/** Where a header stands and what it may contain. */
export interface HeaderContext {
  readonly file: string;
  /** Bytes before the data: 8 and the header. */
  readonly dataOffset: number;
  readonly fileByteLength: number;
  readonly limits: Limits;
}

/** Parses and checks a header. Throws `safetensors/*`. */
export function parseHeader(text: string, context: HeaderContext): SafetensorsHeader {
  if (!text.startsWith("{")) {
    refuse(context, "safetensors/header-json", 'the header does not start with "{"', { field: "header" });
  }
  const { safetensorsHeaderDepth: depth, jsonEntries: entries } = context.limits;
  const json = openJson(text, { depth, entries });
  const metadata = new Map<string, string>();
  const tensors: SafetensorsEntry[] = [];
  try {
    readObject(json, (name) => {
      if (name === METADATA_KEY) readMetadata(json, metadata, context);
      else tensors.push(readEntry(json, name, context));
    });
    finishJson(json);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    refuse(context, JSON_TAGS[error.rule], `the header: ${error.message}`, {
      field: "header",
      characterOffset: error.offset,
    });
  }
  return { metadata, tensors: orderByData(tensors, context) };
}

const JSON_TAGS = {
  syntax: "safetensors/header-json",
  duplicate: "safetensors/duplicate-key",
  limit: "safetensors/limit",
} as const;

/**
 * Bytes that a tensor takes; null where they are not whole, or where a product passes 2^53 - 1 on the way (as the
 * reference reader, which multiplies from the left, so a zero behind an overflow does not mend it).
 */
export function tensorByteLength(shape: readonly number[], elementBits: number): number | null {
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (!Number.isSafeInteger(count)) return null;
  }
  const bits = count * elementBits;
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : null;
}

function readMetadata(json: JsonCursor, metadata: Map<string, string>, context: HeaderContext): void {
  const kind = peekKind(json);
  if (kind !== "object") {
    const details = { field: METADATA_KEY, value: kind, limit: "object" };
    refuse(context, "safetensors/metadata", `${METADATA_KEY} is of the kind ${kind}`, details);
  }
  readObject(json, (key) => {
    const kind = peekKind(json);
    if (kind !== "string") {
      const details = { field: `${METADATA_KEY}.${key}`, value: kind, limit: "string" };
      refuse(context, "safetensors/metadata", `${METADATA_KEY} has a ${kind} at ${quote(key)}`, details);
    }
    metadata.set(key, readString(json));
  });
}

function readEntry(json: JsonCursor, name: string, context: HeaderContext): SafetensorsEntry {
  const { tensorRank, tensorNameLength } = context.limits;
  if (name.length > tensorNameLength) {
    const details = { field: "name", value: name.length, limit: tensorNameLength };
    refuse(context, "safetensors/limit", `the tensor name ${quote(name)} is too long`, details);
  }
  if (peekKind(json) !== "object") {
    const details = { tensor: name, value: peekKind(json), limit: "object" };
    refuse(context, "safetensors/header-json", `the entry of ${quote(name)} is no object`, details);
  }
  let dtype: string | null = null;
  let shape: number[] | null = null;
  let offsets: number[] | null = null;
  readObject(json, (field) => {
    if (field === "dtype") dtype = readDtype(json, name, context);
    else if (field === "shape") shape = readCounts(json, tensorRank) ?? refuseShape(name, context);
    else if (field === "data_offsets") offsets = readCounts(json, 2) ?? refuseOffsets(name, context);
    else skipValue(json);
  });
  return createEntry(
    name,
    dtype ?? refuseDtype(name, undefined, context),
    shape ?? refuseShape(name, context),
    offsets ?? refuseOffsets(name, context),
    context,
  );
}

function createEntry(
  name: string,
  dtype: string,
  shape: readonly number[],
  offsets: readonly number[],
  context: HeaderContext,
): SafetensorsEntry {
  const [begin, end] = offsets;
  if (offsets.length !== 2 || begin > end) refuseOffsets(name, context, offsets);
  const byteLength = end - begin;
  const wanted = tensorByteLength(shape, SAFETENSORS_BITS[dtype]);
  if (wanted !== byteLength) {
    const size = wanted ?? "an impossible number of";
    refuse(
      context,
      "safetensors/size",
      `${quote(name)} is ${dtype} [${shape.join(", ")}], which takes ${size} bytes, and has ${byteLength}`,
      { tensor: name, field: "data_offsets", value: byteLength, limit: wanted },
    );
  }
  return { name, dtype, shape, byteOffset: context.dataOffset + begin, byteLength };
}

function readDtype(json: JsonCursor, name: string, context: HeaderContext): string {
  const kind = peekKind(json);
  if (kind !== "string") return refuseDtype(name, kind, context);
  const dtype = readString(json);
  return Object.hasOwn(SAFETENSORS_BITS, dtype) ? dtype : refuseDtype(name, dtype, context);
}

/** Reads a list of at most `limit` counts; null for anything else, left unread. */
function readCounts(json: JsonCursor, limit: number): number[] | null {
  if (peekKind(json) !== "array") return null;
  const counts: number[] = [];
  try {
    readArray(json, () => {
      const count = readCount(json);
      if (count === null || counts.length === limit) throw NOT_COUNTS;
      counts.push(count);
    });
  } catch (error) {
    if (error === NOT_COUNTS) return null;
    throw error;
  }
  return counts;
}

const NOT_COUNTS = Symbol("not a list of counts");

/** Orders tensors by their data and refuses holes, overlaps and bytes that nobody owns. */
function orderByData(
  tensors: readonly SafetensorsEntry[],
  context: HeaderContext,
): ReadonlyMap<string, SafetensorsEntry> {
  const { dataOffset, fileByteLength } = context;
  const ordered = [...tensors].sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  const byName = new Map<string, SafetensorsEntry>();
  let end = dataOffset;
  for (const entry of ordered) {
    const { name, byteOffset, byteLength } = entry;
    const details = { tensor: name, field: "data_offsets" };
    if (byteOffset + byteLength > fileByteLength) {
      const value = byteOffset + byteLength;
      const message = `the data of ${quote(name)} ends at ${value} and the file at ${fileByteLength}`;
      refuse(context, "safetensors/truncated", message, { ...details, value, limit: fileByteLength });
    }
    if (byteOffset !== end) {
      const what = byteOffset < end ? "overlaps the tensor before it" : "leaves a hole before it";
      const numbers = { value: byteOffset - dataOffset, limit: end - dataOffset };
      refuse(context, "safetensors/offsets", `the data of ${quote(name)} ${what}`, {
        ...details,
        ...numbers,
      });
    }
    end += byteLength;
    byName.set(name, entry);
  }
  if (end !== fileByteLength) {
    const value = fileByteLength - end;
    const details = { field: "data_offsets", value, limit: 0 };
    refuse(context, "safetensors/offsets", `the last ${value} bytes belong to no tensor`, details);
  }
  return byName;
}

function refuseDtype(name: string, given: string | undefined, context: HeaderContext): never {
  const what = given === undefined ? "no dtype" : `the unknown dtype ${quote(given)}`;
  const details = { tensor: name, field: "dtype", value: given, limit: Object.keys(SAFETENSORS_BITS) };
  return refuse(context, "safetensors/dtype", `${quote(name)} has ${what}`, details);
}

function refuseShape(name: string, context: HeaderContext): never {
  const limit = context.limits.tensorRank;
  const message = `the shape of ${quote(name)} is not a list of at most ${limit} sizes`;
  return refuse(context, "safetensors/shape", message, { tensor: name, field: "shape", limit });
}

function refuseOffsets(name: string, context: HeaderContext, value?: readonly number[]): never {
  const message = `the data offsets of ${quote(name)} are not two ascending sizes`;
  return refuse(context, "safetensors/offsets", message, { tensor: name, field: "data_offsets", value });
}

function refuse(context: HeaderContext, tag: ErrorTag, message: string, details: ErrorDetails): never {
  throw new IsqError(tag, `${context.file}: ${message}`, { file: context.file, ...details });
}
