/**
 * Writing GGUF, version 3, in two parts: {@link layoutGguf} is pure and says which byte goes where; {@link writeGguf} puts
 * header and data into a sink. The same input gives the same bytes.
 */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { type GgmlType, ggmlByteLength, ggmlTypeNamed } from "./ggml-types.js";
import { openGgufEncoder, writeMetadata } from "./gguf-encode.js";
import { GGUF_MAGIC, GGUF_VERSION, isAlignment } from "./gguf-header.js";
import {
  ALIGNMENT_KEY,
  DEFAULT_ALIGNMENT,
  type GgufMetadata,
  isPlainName,
  padOffset,
} from "./gguf-values.js";
import { quote } from "./json.js";

/** A tensor to write. */
export interface GgufTensorSpec {
  readonly name: string;
  /** ggml's name (`Q4_K`) or ours (`Q4K`). */
  readonly type: string;
  /** Row-major, outermost dimension first; the file has it reversed. */
  readonly shape: readonly number[];
}

/** Where a tensor goes. */
export interface GgufPlace {
  readonly name: string;
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
  /** Zero bytes behind the data. */
  readonly paddingBytes: number;
}

export interface GgufLayout {
  /** Everything in front of the data, padding included. */
  readonly header: Uint8Array;
  /** In the order of the file. */
  readonly tensors: readonly GgufPlace[];
  /** Of the whole file. */
  readonly byteLength: number;
}

/**
 * Lays out a file. Keys and tensors keep their order. Data is aligned as `general.alignment` says, to 32 bytes without it.
 * Throws `gguf/*` for what could not be read back.
 */
export function layoutGguf(metadata: GgufMetadata, tensors: readonly GgufTensorSpec[]): GgufLayout {
  const alignment = alignmentOf(metadata);
  const encoder = openGgufEncoder();
  encoder.u32(GGUF_MAGIC);
  encoder.u32(GGUF_VERSION);
  encoder.u64(checkCount("tensors", tensors.length, LIMITS.ggufTensors));
  encoder.u64(checkCount("metadata", metadata.size, LIMITS.ggufKeys));
  writeMetadata(encoder, metadata);
  const names = new Set<string>();
  const places: GgufPlace[] = [];
  let offset = 0;
  for (const { name, type, shape } of tensors) {
    checkName(name, names);
    const found = findType(name, type);
    const byteLength = sizeOf(name, found, shape);
    encoder.text(name);
    encoder.u32(shape.length);
    for (const size of [...shape].reverse()) encoder.u64(size);
    encoder.u32(found.id);
    encoder.u64(offset);
    const paddingBytes = padOffset(byteLength, alignment) - byteLength;
    places.push({ name, byteOffset: offset, byteLength, paddingBytes });
    offset += byteLength + paddingBytes;
  }
  encoder.pad(alignment);
  const header = encoder.finish();
  checkCount("header bytes", header.byteLength, LIMITS.ggufHeaderBytes);
  checkCount("bytes", header.byteLength + offset, Number.MAX_SAFE_INTEGER);
  const placed = places.map((place) => ({ ...place, byteOffset: header.byteLength + place.byteOffset }));
  return { header, tensors: placed, byteLength: header.byteLength + offset };
}

/** Takes the bytes of a file. {@link writeGguf} calls it in ascending order, without gaps. */
export interface ByteSink {
  write(byteOffset: number, bytes: Uint8Array): Promise<void> | void;
}

/** Data of a tensor: whole, or in pieces whose lengths add up. */
export type GgufData = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/**
 * Writes header and data in order. `dataOf` is called for one tensor at a time. Throws `gguf/size` when a tensor's data has
 * another length than its place, and whatever source and sink throw.
 */
export async function writeGguf(
  layout: GgufLayout,
  dataOf: (place: GgufPlace, index: number) => Promise<GgufData> | GgufData,
  sink: ByteSink,
): Promise<void> {
  await sink.write(0, layout.header);
  for (const [index, place] of layout.tensors.entries()) {
    await writeGgufTensor(place, await dataOf(place, index), sink);
  }
}

/** Writes the data of one tensor and the padding behind it. Throws `gguf/size`. */
export async function writeGgufTensor(place: GgufPlace, data: GgufData, sink: ByteSink): Promise<void> {
  const { name, byteOffset, byteLength, paddingBytes } = place;
  let done = 0;
  const refuseSize = (value: number): never =>
    refuse("gguf/size", `the data of ${quote(name)} has ${value} bytes, not ${byteLength}`, {
      tensor: name,
      field: "data",
      value,
      limit: byteLength,
    });
  for await (const piece of data instanceof Uint8Array ? [data] : data) {
    if (done + piece.byteLength > byteLength) refuseSize(done + piece.byteLength);
    await sink.write(byteOffset + done, piece);
    done += piece.byteLength;
  }
  if (done !== byteLength) refuseSize(done);
  if (paddingBytes > 0) await sink.write(byteOffset + byteLength, new Uint8Array(paddingBytes));
}

/** A sink that keeps the bytes, for small files. */
export function toBytes(byteLength: number): ByteSink & { readonly bytes: Uint8Array } {
  const bytes = new Uint8Array(byteLength);
  return { bytes, write: (byteOffset, piece) => bytes.set(piece, byteOffset) };
}

/** The alignment that the metadata asks for. Throws `gguf/alignment` unless it is a power of two and a multiple of 8. */
function alignmentOf(metadata: GgufMetadata): number {
  const found = metadata.get(ALIGNMENT_KEY);
  if (found === undefined) return DEFAULT_ALIGNMENT;
  if (found.type === "u32" && found.value >= 8 && isAlignment(found.value, LIMITS.ggufAlignment)) {
    return found.value;
  }
  const message = `${ALIGNMENT_KEY} must be a power of two from 8 to ${LIMITS.ggufAlignment} (u32)`;
  const value = found.type === "array" ? "array" : String(found.value);
  return refuse("gguf/alignment", message, { field: ALIGNMENT_KEY, value, limit: LIMITS.ggufAlignment });
}

function checkName(name: string, names: Set<string>): void {
  if (names.has(name)) {
    refuse("gguf/duplicate", `the tensor ${quote(name)} comes twice`, { tensor: name, field: "name" });
  }
  names.add(name);
  const byteLength = new TextEncoder().encode(name).byteLength;
  if (isPlainName(name) && byteLength <= LIMITS.ggufNameBytes) return;
  const message = `${quote(name)} is no tensor name of at most ${LIMITS.ggufNameBytes} bytes`;
  refuse("gguf/name", message, {
    tensor: name,
    field: "name",
    value: byteLength,
    limit: LIMITS.ggufNameBytes,
  });
}

function findType(tensor: string, name: string): GgmlType {
  const type = ggmlTypeNamed(name);
  if (type && type.blockElements > 0) return type;
  const details = { tensor, field: "type", value: name };
  return refuse("gguf/type", `GGUF has no tensor type ${quote(name)} for ${quote(tensor)}`, details);
}

function sizeOf(tensor: string, type: GgmlType, shape: readonly number[]): number {
  const whole = shape.every((size) => Number.isSafeInteger(size) && size >= 0);
  const elements = shape.reduce((product, size) => product * (size || 1), 1);
  const byteLength = whole && elements <= Number.MAX_SAFE_INTEGER ? ggmlByteLength(type, shape) : null;
  if (byteLength !== null && shape.length <= LIMITS.ggufRank) return byteLength;
  const message = `${quote(tensor)} cannot be ${type.name} [${shape.join(", ")}]`;
  return refuse("gguf/shape", message, { tensor, field: "shape", value: shape, limit: type.blockElements });
}

function checkCount(field: string, count: number, limit: number): number {
  if (count <= limit) return count;
  return refuse("gguf/count", `${count} ${field} are more than ${limit}`, { field, value: count, limit });
}

function refuse(tag: ErrorTag, message: string, details: ErrorDetails): never {
  throw new IsqError(tag, message, details);
}
