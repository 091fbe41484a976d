/** A checked little-endian reader over bytes, for binary headers. */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";

export interface CursorOptions {
  /** For error messages. */
  readonly file: string;
  /** Where `bytes` starts in the file, so that errors name offsets of the file. 0 when absent. */
  readonly byteOffset?: number;
  /** Tags of the three things that can be wrong: too few bytes, an integer above 2^53 - 1, text that is not UTF-8. */
  readonly tags: { readonly end: ErrorTag; readonly integer: ErrorTag; readonly text: ErrorTag };
}

/** Each call reads at the place where the last one ended. `field` names what is read, for errors. */
export interface Cursor {
  /** Offset of the next byte in the file. */
  readonly byteOffset: number;
  /** Bytes left. */
  readonly remaining: number;
  u8(field: string): number;
  i8(field: string): number;
  u16(field: string): number;
  i16(field: string): number;
  u32(field: string): number;
  i32(field: string): number;
  /** A 64-bit integer that JavaScript holds exactly. */
  u64(field: string): number;
  i64(field: string): number;
  /** All 64 bits. */
  bigU64(field: string): bigint;
  bigI64(field: string): bigint;
  f32(field: string): number;
  f64(field: string): number;
  /** A view, not a copy. */
  bytes(byteLength: number, field: string): Uint8Array;
  /** Strict UTF-8 of a given length in bytes. */
  text(byteLength: number, field: string): string;
}

/** Reads `bytes` from their start. Every method throws one of `options.tags` with file, field and byte offset. */
export function openCursor(bytes: Uint8Array, options: CursorOptions): Cursor {
  const { file, tags, byteOffset: base = 0 } = options;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const refuse = (tag: ErrorTag, message: string, details: ErrorDetails): never => {
    throw new IsqError(tag, `${file}: ${message}`, { file, ...details });
  };
  /** Moves over `byteLength` bytes and returns where they start. */
  const advance = (byteLength: number, field: string): number => {
    const left = bytes.byteLength - at;
    if (!Number.isSafeInteger(byteLength) || byteLength < 0 || byteLength > left) {
      const message = `${field} takes ${byteLength} bytes at ${base + at}, and ${left} are left`;
      refuse(tags.end, message, { field, value: byteLength, limit: left, byteOffset: base + at });
    }
    at += byteLength;
    return at - byteLength;
  };
  const toNumber = (value: bigint, field: string): number => {
    const number = Number(value);
    if (Number.isSafeInteger(number)) return number;
    const limit = Number.MAX_SAFE_INTEGER;
    return refuse(tags.integer, `${field} is ${value}, beyond ${limit}`, {
      field,
      value: String(value),
      limit,
    });
  };
  return {
    get byteOffset() {
      return base + at;
    },
    get remaining() {
      return bytes.byteLength - at;
    },
    u8: (field) => view.getUint8(advance(1, field)),
    i8: (field) => view.getInt8(advance(1, field)),
    u16: (field) => view.getUint16(advance(2, field), true),
    i16: (field) => view.getInt16(advance(2, field), true),
    u32: (field) => view.getUint32(advance(4, field), true),
    i32: (field) => view.getInt32(advance(4, field), true),
    u64: (field) => toNumber(view.getBigUint64(advance(8, field), true), field),
    i64: (field) => toNumber(view.getBigInt64(advance(8, field), true), field),
    bigU64: (field) => view.getBigUint64(advance(8, field), true),
    bigI64: (field) => view.getBigInt64(advance(8, field), true),
    f32: (field) => view.getFloat32(advance(4, field), true),
    f64: (field) => view.getFloat64(advance(8, field), true),
    bytes(byteLength, field) {
      const start = advance(byteLength, field);
      return bytes.subarray(start, start + byteLength);
    },
    text(byteLength, field) {
      const start = advance(byteLength, field);
      try {
        return UTF8.decode(bytes.subarray(start, start + byteLength));
      } catch {
        return refuse(tags.text, `${field} is not UTF-8`, { field, byteOffset: base + start });
      }
    },
  };
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
