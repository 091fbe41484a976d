/** Byte sources: a length and a slice, so that a file, a Blob, a buffer or an HTTP resource can all be read by ranges. */

import { IsqError, isIsqError } from "../errors.js";
import { LIMITS } from "../limits.js";

/**
 * Bytes of known length that are read by ranges: a file, a Blob, a buffer, an address. Reading past the end is an error
 * (`source/*`).
 */
export interface ByteSource {
  /** For error messages. */
  readonly name: string;
  readonly byteLength: number;
  /** Path of the plain file that this is, where it is one: other threads may open it for themselves. */
  readonly path?: string;
  /** The Blob that this is, where it is one: other threads of a browser may read it for themselves. */
  readonly blob?: Blob;
  /** Bytes `start` (included) to `end` (excluded). */
  slice(start: number, end: number): Promise<Uint8Array>;
  /** Where a source can change behind our back: why it is no longer what was opened, or null. */
  findChange?(): Promise<string | null>;
  /** Frees what the source holds, where it holds anything. */
  close?(): Promise<void>;
}

/** A source over bytes in memory; slices are views. */
export function fromBytes(bytes: Uint8Array, name = "bytes"): ByteSource {
  return { name, byteLength: bytes.byteLength, slice: async (start, end) => bytes.subarray(start, end) };
}

/** A source over a Blob or File, read by ranges. */
export function fromBlob(blob: Blob, name = "blob"): ByteSource {
  return {
    name,
    byteLength: blob.size,
    blob,
    slice: async (start, end) => new Uint8Array(await blob.slice(start, end).arrayBuffer()),
  };
}

/** What another thread needs to read a source for itself; null where it cannot. */
export interface SharedFile {
  /** Path of a plain file; of a Blob its name, for messages. */
  readonly path: string;
  /** Read instead of a path. */
  readonly blob?: Blob;
}

export function shareSource({ name, path, blob }: ByteSource): SharedFile | null {
  if (path !== undefined) return { path };
  return blob ? { path: name, blob } : null;
}

/**
 * Reads a range and insists on getting all of it and no more. Throws `source/range` for a range outside of the source or
 * longer than one typed array may be, `source/read` when the source fails, `source/short` when it gives another length.
 */
export async function readRange(source: ByteSource, start: number, end: number): Promise<Uint8Array> {
  checkRange(source, start, end);
  if (start === end) return new Uint8Array(0);
  const file = source.name;
  let bytes: Uint8Array;
  try {
    bytes = await source.slice(start, end);
  } catch (cause) {
    if (isIsqError(cause)) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `cannot read bytes ${start} to ${end} of ${file}: ${reason}`;
    throw new IsqError("source/read", message, { file, field: "range", value: [start, end] }, { cause });
  }
  if (bytes.byteLength !== end - start) {
    const message = `${file} gave ${bytes.byteLength} bytes for the range ${start} to ${end}`;
    const details = { file, field: "range", value: bytes.byteLength, limit: end - start };
    throw new IsqError("source/short", message, details);
  }
  return bytes;
}

function checkRange({ name: file, byteLength }: ByteSource, start: number, end: number): void {
  const whole = Number.isSafeInteger(start) && Number.isSafeInteger(end);
  if (!whole || start < 0 || end < start || !(end <= byteLength)) {
    const message = `bytes ${start} to ${end} lie outside of ${file} with ${byteLength} bytes`;
    const details = { file, field: "range", value: [start, end], limit: byteLength };
    throw new IsqError("source/range", message, details);
  }
  if (end - start > LIMITS.rangeBytes) {
    const message = `${end - start} bytes of ${file} are more than one read may take, ${LIMITS.rangeBytes}`;
    const details = { file, field: "range", value: end - start, limit: LIMITS.rangeBytes };
    throw new IsqError("source/range", message, details);
  }
}

/** Reads a whole source of at most `limit` bytes. Throws `source/range` beyond it. */
export async function readAll(source: ByteSource, limit: number): Promise<Uint8Array> {
  if (source.byteLength > limit) {
    throw new IsqError(
      "source/range",
      `${source.name} has ${source.byteLength} bytes, more than the limit of ${limit}`,
      { file: source.name, field: "byteLength", value: source.byteLength, limit },
    );
  }
  return readRange(source, 0, source.byteLength);
}
