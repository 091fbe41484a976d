/** Writing safetensors as the reference writer does: {@link layoutSafetensors} is pure and says which byte goes where. */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { quote } from "./json.js";
import { METADATA_KEY, SAFETENSORS_BITS, tensorByteLength } from "./safetensors-header.js";

/** A tensor to write, without its data. */
export interface SafetensorsSpec {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** A tensor to write. */
export interface SafetensorsTensor extends SafetensorsSpec {
  /** Little-endian, row-major. */
  readonly data: Uint8Array;
}

/** Where a tensor goes. */
export interface SafetensorsPlace extends SafetensorsSpec {
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface SafetensorsLayout {
  /** Everything in front of the data. */
  readonly header: Uint8Array;
  /** In the order of the file, with offsets from its start. */
  readonly tensors: readonly SafetensorsPlace[];
  /** Of the whole file. */
  readonly byteLength: number;
}

const LENGTH_BYTES = 8;

/**
 * Lays out a file: tensors by descending dtype (so by descending alignment), then by name in the order of its UTF-8 bytes;
 * the header padded with spaces to a multiple of 8. Metadata keys are sorted, so the same content gives the same bytes.
 * Throws `safetensors/*` for what could not be read back.
 */
export function layoutSafetensors(
  specs: readonly SafetensorsSpec[],
  metadata: Readonly<Record<string, string>> = {},
): SafetensorsLayout {
  const byteLengths = checkSpecs(specs);
  const rank = new Map(Object.keys(SAFETENSORS_BITS).map((dtype, index) => [dtype, index]));
  const ordered = specs
    .map(({ name, dtype, shape }, i) => ({ name, dtype, shape, byteLength: byteLengths[i] }))
    .sort((a, b) => rank.get(b.dtype)! - rank.get(a.dtype)! || compareText(a.name, b.name));
  let end = 0;
  const places = ordered.map((tensor) => {
    const byteOffset = end;
    end += tensor.byteLength;
    return { ...tensor, byteOffset };
  });
  const text = new TextEncoder().encode(formatHeader(places, metadata));
  const headerBytes = Math.ceil(text.byteLength / 8) * 8;
  if (headerBytes > LIMITS.safetensorsHeaderBytes) {
    const details = { field: "header", value: headerBytes, limit: LIMITS.safetensorsHeaderBytes };
    refuse("safetensors/header-length", `the header takes ${headerBytes} bytes`, details);
  }
  const start = LENGTH_BYTES + headerBytes;
  const header = new Uint8Array(start);
  new DataView(header.buffer).setBigUint64(0, BigInt(headerBytes), true);
  header.fill(0x20, LENGTH_BYTES).set(text, LENGTH_BYTES);
  const tensors = places.map((place) => ({ ...place, byteOffset: start + place.byteOffset }));
  return { header, tensors, byteLength: start + end };
}

/** Writes a small file as a whole. Throws `safetensors/*` for what could not be read back. */
export function writeSafetensors(
  tensors: readonly SafetensorsTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const layout = layoutSafetensors(tensors, metadata);
  const data = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const file = new Uint8Array(layout.byteLength);
  file.set(layout.header);
  for (const { name: tensor, byteOffset, byteLength } of layout.tensors) {
    const { data: bytes, dtype, shape } = data.get(tensor)!;
    if (bytes.byteLength !== byteLength) {
      const message = `${quote(tensor)} is ${dtype} [${shape.join(", ")}] and has ${bytes.byteLength} bytes`;
      const details = { tensor, field: "data", value: bytes.byteLength, limit: byteLength };
      refuse("safetensors/size", message, details);
    }
    file.set(bytes, byteOffset);
  }
  return file;
}

/** The header as text. Put together by hand, because an object would move keys that look like numbers to the front. */
function formatHeader(
  ordered: readonly SafetensorsPlace[],
  metadata: Readonly<Record<string, string>>,
): string {
  const members: string[] = [];
  const pairs = Object.entries(metadata).sort(([a], [b]) => compareText(a, b));
  if (pairs.length > 0) {
    const texts = pairs.map(([key, value]) => `${formatText(key)}:${formatText(value)}`);
    members.push(`"${METADATA_KEY}":{${texts.join(",")}}`);
  }
  for (const { name, dtype, shape, byteOffset, byteLength } of ordered) {
    const info = { dtype, shape, data_offsets: [byteOffset, byteOffset + byteLength] };
    members.push(`${formatText(name)}:${JSON.stringify(info)}`);
  }
  return `{${members.join(",")}}`;
}

function formatText(text: unknown): string {
  // Half a surrogate pair has no UTF-8, and no strict reader takes its escape.
  if (typeof text === "string" && !/\p{Surrogate}/u.test(text)) return JSON.stringify(text);
  const message = `${quote(String(text))} is not text that UTF-8 can hold`;
  return refuse("safetensors/header-json", message, { field: "header", value: text });
}

/** Byte lengths of the tensors. */
function checkSpecs(specs: readonly SafetensorsSpec[]): number[] {
  const names = new Set([METADATA_KEY]);
  return specs.map(({ name: tensor, dtype, shape }) => {
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
    const byteLength = tensorByteLength(shape, SAFETENSORS_BITS[dtype]);
    if (byteLength !== null) return byteLength;
    const message = `${quote(tensor)} is ${dtype} [${shape.join(", ")}], which takes no whole number of bytes`;
    return refuse("safetensors/size", message, { tensor, field: "shape", value: shape });
  });
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
