/** safetensors: u64 header length, JSON header, data. Reading and writing side by side; safetensors-header.ts has the rules. */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import { LIMITS, type Limits } from "../limits.js";
import { openCursor } from "./cursor.js";
import { quote } from "./json.js";
import {
  METADATA_KEY,
  parseHeader,
  SAFETENSORS_BITS,
  type SafetensorsEntry,
  type SafetensorsHeader,
  tensorByteLength,
} from "./safetensors-header.js";
import { type ByteSource, readRange } from "./source.js";

export { SAFETENSORS_BITS, type SafetensorsEntry } from "./safetensors-header.js";

export interface Safetensors extends SafetensorsHeader {
  readonly source: ByteSource;
  /** Bytes of one tensor, little-endian. Throws `tensor/missing`, `source/*`. */
  read(name: string): Promise<Uint8Array>;
  /** Bytes `start` to `end` of one tensor, counted from its own start. Throws as `read`. */
  readRange(name: string, start: number, end: number): Promise<Uint8Array>;
}

export interface SafetensorsOptions {
  /** Caps that differ from the defaults of limits.ts. */
  readonly limits?: Partial<Limits>;
}

const LENGTH_BYTES = 8;

/** Reads and checks the header; no data. Throws `safetensors/*` or `source/*`. */
export async function openSafetensors(
  source: ByteSource,
  options: SafetensorsOptions = {},
): Promise<Safetensors> {
  const file = source.name;
  const limits = { ...LIMITS, ...options.limits };
  const { text, dataOffset } = await readHeaderText(source, limits);
  const header = parseHeader(text, { file, dataOffset, fileByteLength: source.byteLength, limits });
  const find = (tensor: string): SafetensorsEntry =>
    header.tensors.get(tensor) ??
    refuse("tensor/missing", `${file}: there is no tensor ${quote(tensor)}`, { file, tensor });
  return {
    ...header,
    source,
    async read(name) {
      const { byteOffset, byteLength } = find(name);
      return readRange(source, byteOffset, byteOffset + byteLength);
    },
    async readRange(name, start, end) {
      const { byteOffset, byteLength } = find(name);
      if (!(start >= 0 && start <= end && end <= byteLength)) {
        const message = `${file}: bytes ${start} to ${end} lie outside of ${quote(name)} with ${byteLength} bytes`;
        const details = { file, tensor: name, field: "range", value: [start, end], limit: byteLength };
        refuse("source/range", message, details);
      }
      return readRange(source, byteOffset + start, byteOffset + end);
    },
  };
}

async function readHeaderText(
  source: ByteSource,
  limits: Limits,
): Promise<{ text: string; dataOffset: number }> {
  const { name: file, byteLength } = source;
  const prefix = await readRange(source, 0, Math.min(LENGTH_BYTES, byteLength));
  const field = "the header length";
  const headerBytes = openCursor(prefix, { file, tags: LENGTH_TAGS }).u64(field);
  const limit = Math.min(limits.safetensorsHeaderBytes, byteLength - LENGTH_BYTES);
  if (headerBytes === 0 || headerBytes > limit) {
    const message = `${file}: ${field} ${headerBytes} is not between 1 and ${limit}`;
    refuse("safetensors/header-length", message, { file, field, value: headerBytes, limit });
  }
  const dataOffset = LENGTH_BYTES + headerBytes;
  const bytes = await readRange(source, LENGTH_BYTES, dataOffset);
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), dataOffset };
  } catch (cause) {
    const details = { file, field: "header" };
    throw new IsqError("safetensors/header-json", `${file}: the header is not UTF-8`, details, { cause });
  }
}

const LENGTH_TAGS = {
  end: "safetensors/truncated",
  integer: "safetensors/header-length",
  text: "safetensors/header-json",
} as const;

/** A tensor to write. */
export interface SafetensorsTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Little-endian, row-major. */
  readonly data: Uint8Array;
}

/**
 * Writes a file as the reference writer does: tensors by descending dtype (so by descending alignment), then by name in
 * the order of its UTF-8 bytes; the header padded with spaces to a multiple of 8. Metadata keys are sorted, so the same
 * content gives the same bytes. Throws `safetensors/*` for what could not be read back.
 */
export function writeSafetensors(
  tensors: readonly SafetensorsTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  checkTensors(tensors);
  const rank = new Map(Object.keys(SAFETENSORS_BITS).map((dtype, index) => [dtype, index]));
  const ordered = [...tensors].sort(
    (a, b) => rank.get(b.dtype)! - rank.get(a.dtype)! || compareText(a.name, b.name),
  );
  const header = new TextEncoder().encode(formatHeader(ordered, metadata));
  const headerBytes = Math.ceil(header.byteLength / 8) * 8;
  if (headerBytes > LIMITS.safetensorsHeaderBytes) {
    const details = { field: "header", value: headerBytes, limit: LIMITS.safetensorsHeaderBytes };
    refuse("safetensors/header-length", `the header takes ${headerBytes} bytes`, details);
  }
  const dataBytes = ordered.reduce((sum, { data }) => sum + data.byteLength, 0);
  const file = new Uint8Array(LENGTH_BYTES + headerBytes + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true);
  file.fill(0x20, LENGTH_BYTES, LENGTH_BYTES + headerBytes).set(header, LENGTH_BYTES);
  let at = LENGTH_BYTES + headerBytes;
  for (const { data } of ordered) {
    file.set(data, at);
    at += data.byteLength;
  }
  return file;
}

/** The header as text. Put together by hand, because an object would move keys that look like numbers to the front. */
function formatHeader(
  ordered: readonly SafetensorsTensor[],
  metadata: Readonly<Record<string, string>>,
): string {
  const members: string[] = [];
  const pairs = Object.entries(metadata).sort(([a], [b]) => compareText(a, b));
  if (pairs.length > 0) {
    const texts = pairs.map(([key, value]) => `${formatText(key)}:${formatText(value)}`);
    members.push(`"${METADATA_KEY}":{${texts.join(",")}}`);
  }
  let end = 0;
  for (const { name, dtype, shape, data } of ordered) {
    const info = { dtype, shape, data_offsets: [end, end + data.byteLength] };
    members.push(`${formatText(name)}:${JSON.stringify(info)}`);
    end += data.byteLength;
  }
  return `{${members.join(",")}}`;
}

function formatText(text: unknown): string {
  // Half a surrogate pair has no UTF-8, and no strict reader takes its escape.
  if (typeof text === "string" && !/\p{Surrogate}/u.test(text)) return JSON.stringify(text);
  const message = `${quote(String(text))} is not text that UTF-8 can hold`;
  return refuse("safetensors/header-json", message, { field: "header", value: text });
}

function checkTensors(tensors: readonly SafetensorsTensor[]): void {
  const names = new Set([METADATA_KEY]);
  for (const { name: tensor, dtype, shape, data } of tensors) {
    if (names.has(tensor)) {
      refuse("safetensors/duplicate-key", `${quote(tensor)} is taken`, {
        tensor,
        field: "name",
        value: tensor,
      });
    }
    names.add(tensor);
    if (!Object.hasOwn(SAFETENSORS_BITS, dtype)) {
      const details = { tensor, field: "dtype", value: dtype, limit: Object.keys(SAFETENSORS_BITS) };
      refuse("safetensors/dtype", `${quote(tensor)} has the unknown dtype ${quote(dtype)}`, details);
    }
    if (shape.length > LIMITS.tensorRank || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      const message = `the shape of ${quote(tensor)} is not a list of at most ${LIMITS.tensorRank} sizes`;
      refuse("safetensors/shape", message, {
        tensor,
        field: "shape",
        value: shape,
        limit: LIMITS.tensorRank,
      });
    }
    const wanted = tensorByteLength(shape, SAFETENSORS_BITS[dtype]);
    if (wanted !== data.byteLength) {
      const message = `${quote(tensor)} is ${dtype} [${shape.join(", ")}] and has ${data.byteLength} bytes`;
      const details = { tensor, field: "data", value: data.byteLength, limit: wanted };
      refuse("safetensors/size", message, details);
    }
  }
}

/** Orders by code points, which is the order of the UTF-8 bytes; `<` would put U+FFFD behind all emoji. */
function compareText(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  let i = 0;
  while (i < length && a[i] === b[i]) i++;
  // A surrogate belongs to a code point above all of the others.
  const rank = (code: number) => (code >= 0xd800 && code <= 0xdfff ? code + 0x10000 : code);
  return i === length ? a.length - b.length : rank(a.charCodeAt(i)) - rank(b.charCodeAt(i));
}

function refuse(tag: ErrorTag, message: string, details: ErrorDetails): never {
  throw new IsqError(tag, message, details);
}
