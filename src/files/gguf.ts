/** Reading GGUF files from any byte source. gguf-header.ts has the rules, gguf-write.ts the writer. */

import { type ErrorDetails, type ErrorTag, IsqError, isIsqError } from "../errors.js";
import { LIMITS, type Limits } from "../limits.js";
import { ggmlTypeOf } from "./ggml-types.js";
import {
  type GgufContext,
  type GgufEntry,
  type GgufHeader,
  type RawHeader,
  readGgufHeader,
} from "./gguf-header.js";
import { placeGgufTensors } from "./gguf-place.js";
import { quote } from "./json.js";
import { type ByteSource, readRange } from "./source.js";

export type { GgufEntry } from "./gguf-header.js";

export interface Gguf extends GgufHeader {
  readonly source: ByteSource;
  /** Bytes of one tensor as stored. Throws `tensor/missing`, `gguf/type` where the layout is unknown, `source/*`. */
  read(name: string): Promise<Uint8Array>;
  /** Bytes `start` to `end` of one tensor, counted from its own start. Throws as `read`, and `source/range`. */
  readRange(name: string, start: number, end: number): Promise<Uint8Array>;
}

export interface GgufOptions {
  /** Caps that differ from the defaults of limits.ts. */
  readonly limits?: Partial<Limits>;
}

/** First read of a file. The header does not say how long it is, so the reads grow until it is whole. */
const FIRST_READ = 64 * 1024;
const GROWTH = 2;

/** Reads and checks the header; no data. Throws `gguf/*` or `source/*`. */
export async function openGguf(source: ByteSource, options: GgufOptions = {}): Promise<Gguf> {
  const limits = { ...LIMITS, ...options.limits };
  const file = source.name;
  const context = { file, fileByteLength: source.byteLength, limits };
  const header = placeGgufTensors(await readHeader(source, context), context);
  const find = (tensor: string): GgufEntry => {
    const entry = header.tensors.get(tensor);
    if (!entry)
      return refuse("tensor/missing", `${file}: there is no tensor ${quote(tensor)}`, { file, tensor });
    if (ggmlTypeOf(entry.typeId)?.blockElements) return entry;
    const message = `${file}: ${quote(tensor)} has the type ${entry.dtype}, which cannot be read`;
    return refuse("gguf/type", message, { file, tensor, field: "type", value: entry.typeId });
  };
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

/** Parses as much of the file as is needed. Every round reads only what is new; parsing again costs as much again in all. */
async function readHeader(source: ByteSource, context: GgufContext): Promise<RawHeader> {
  const most = Math.min(source.byteLength, context.limits.ggufHeaderBytes);
  let bytes = await readRange(source, 0, Math.min(FIRST_READ, most));
  for (;;) {
    try {
      return readGgufHeader(bytes, context);
    } catch (error) {
      if (!isIsqError(error, "gguf/truncated") || bytes.byteLength === source.byteLength) throw error;
      if (bytes.byteLength === most) {
        const message = `${source.name}: the header takes more than ${most} bytes`;
        refuse("gguf/count", message, { file: source.name, field: "header", limit: most });
      }
    }
    bytes = await extend(source, bytes, Math.min(GROWTH * bytes.byteLength, most));
  }
}

async function extend(source: ByteSource, bytes: Uint8Array, byteLength: number): Promise<Uint8Array> {
  const longer = new Uint8Array(byteLength);
  longer.set(bytes);
  longer.set(await readRange(source, bytes.byteLength, byteLength), bytes.byteLength);
  return longer;
}

function refuse(tag: ErrorTag, message: string, details: ErrorDetails): never {
  throw new IsqError(tag, message, details);
}
