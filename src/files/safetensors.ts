/** safetensors: u64 header length, JSON header, data. Reading; safetensors-header.ts has the rules, safetensors-write.ts the writer. */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import { LIMITS, type Limits } from "../limits.js";
import { openCursor } from "./cursor.js";
import { quote } from "./json.js";
import { parseHeader, type SafetensorsEntry, type SafetensorsHeader } from "./safetensors-header.js";
import { type ByteSource, readRange } from "./source.js";

export { SAFETENSORS_BITS, type SafetensorsEntry } from "./safetensors-header.js";
export {
  layoutSafetensors,
  type SafetensorsLayout,
  type SafetensorsSpec,
  type SafetensorsTensor,
  writeSafetensors,
} from "./safetensors-write.js";

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

function refuse(tag: ErrorTag, message: string, details: ErrorDetails): never {
  throw new IsqError(tag, message, details);
}
