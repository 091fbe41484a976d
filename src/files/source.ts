/** Byte sources: two members, so that a file, a Blob, a buffer or an HTTP resource can all be read by ranges. */

import { IsqError } from "../errors.js";

export interface ByteSource {
  /** For error messages. */
  readonly name: string;
  readonly byteLength: number;
  /** Bytes `start` (included) to `end` (excluded). */
  slice(start: number, end: number): Promise<Uint8Array>;
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
    slice: async (start, end) => new Uint8Array(await blob.slice(start, end).arrayBuffer()),
  };
}

/**
 * Reads a range and insists on getting all of it and no more. Throws `source/range` for a range outside of the source
 * and `source/short` when the answer has another length than asked for.
 */
export async function readRange(source: ByteSource, start: number, end: number): Promise<Uint8Array> {
  const { name, byteLength } = source;
  if (
    !Number.isSafeInteger(start) ||
    !Number.isSafeInteger(end) ||
    start < 0 ||
    end < start ||
    end > byteLength
  ) {
    throw new IsqError(
      "source/range",
      `bytes ${start} to ${end} lie outside of ${name} with ${byteLength} bytes`,
      {
        file: name,
        field: "range",
        value: [start, end],
        limit: byteLength,
      },
    );
  }
  if (start === end) return new Uint8Array(0);
  const bytes = await source.slice(start, end);
  if (bytes.byteLength !== end - start) {
    throw new IsqError(
      "source/short",
      `${name} gave ${bytes.byteLength} bytes for the range ${start} to ${end}`,
      { file: name, field: "range", value: bytes.byteLength, limit: end - start },
    );
  }
  return bytes;
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
