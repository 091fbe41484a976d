/**
 * Writing safetensors as the reference writer does: tensors by descending dtype (so by descending alignment), then by name in
 * the order of its UTF-8 bytes; the header padded with spaces to a multiple of 8. Metadata keys are sorted. The same content
 * gives the same bytes.
 */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { quote } from "./json.js";
import { METADATA_KEY, SAFETENSORS_BITS, tensorByteLength } from "./safetensors-header.js";

/** A tensor to write. */
export interface SafetensorsSpec {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** A tensor with its data: little-endian, row-major. */
export interface SafetensorsTensor extends SafetensorsSpec {
  readonly data: Uint8Array;
}

/** Where a tensor goes. */
export interface SafetensorsPlace {
  readonly name: string;
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface SafetensorsLayout {
  /** Everything in front of the data. */
  readonly header: Uint8Array;
  /** In the order of the file. */
  readonly tensors: readonly SafetensorsPlace[];
  /** Of the whole file. */
  readonly byteLength: number;
}

const LENGTH_BYTES = 8;

/** Lays out a file. Throws `safetensors/*` for what could not be read back. */
export function layoutSafetensors(
  tensors: readonly SafetensorsSpec[],
  metadata: Readonly<Record<string, string>> = {},
): SafetensorsLayout {
  checkTensors(tensors);
  const rank = new Map(Object.keys(SAFETENSORS_BITS).map((dtype, index) => [dtype, index]));
  const ordered = [...tensors].sort(
    (a, b) => rank.get(b.dtype)! - rank.get(a.dtype)! || compareText(a.name, b.name),
  );
  const text = new TextEncoder().encode(formatHeader(ordered, metadata));
  const textBytes = Math.ceil(text.byteLength / 8) * 8;
  if (textBytes > LIMITS.safetensorsHeaderBytes) {
    const details = { field: "header", value: textBytes, limit: LIMITS.safetensorsHeaderBytes };
    refuse("safetensors/header-length", `the header takes ${textBytes} bytes`, details);
  }
  const header = new Uint8Array(LENGTH_BYTES + textBytes);
  new DataView(header.buffer).setBigUint64(0, BigInt(textBytes), true);
  header.fill(0x20, LENGTH_BYTES).set(text, LENGTH_BYTES);
  let byteOffset = header.byteLength;
  const places = ordered.map(({ name, dtype, shape }) => {
    const byteLength = tensorByteLength(shape, SAFETENSORS_BITS[dtype])!;
    byteOffset += byteLength;
    return { name, byteOffset: byteOffset - byteLength, byteLength };
  });
  return { header, tensors: places, byteLength: byteOffset };
}

/** The bytes of a file. Throws as {@link layoutSafetensors}, and `safetensors/size` for data of another length. */
export function writeSafetensors(
  tensors: readonly SafetensorsTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const layout = layoutSafetensors(tensors, metadata);
  const dataOf = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const file = new Uint8Array(layout.byteLength);
  file.set(layout.header);
  for (const { name, byteOffset, byteLength } of layout.tensors) {
    const { dtype, shape, data } = dataOf.get(name)!;
    if (data.byteLength !== byteLength) {
      const message = `${quote(name)} is ${dtype} [${shape.join(", ")}] and has ${data.byteLength} bytes`;
      const details = { tensor: name, field: "data", value: data.byteLength, limit: byteLength };
      refuse("safetensors/size", message, details);
    }
    file.set(data, byteOffset);
  }
  return file;
}

/** The header as text. Put together by hand, because an object would move keys that look like numbers to the front. */
function formatHeader(
  ordered: readonly SafetensorsSpec[],
  metadata: Readonly<Record<string, string>>,
): string {
  const members: string[] = [];
  const pairs = Object.entries(metadata).sort(([a], [b]) => compareText(a, b));
  if (pairs.length > 0) {
    const texts = pairs.map(([key, value]) => `${formatText(key)}:${formatText(value)}`);
    members.push(`"${METADATA_KEY}":{${texts.join(",")}}`);
  }
  let end = 0;
  for (const { name, dtype, shape } of ordered) {
    const byteLength = tensorByteLength(shape, SAFETENSORS_BITS[dtype])!;
    const info = { dtype, shape, data_offsets: [end, end + byteLength] };
    members.push(`${formatText(name)}:${JSON.stringify(info)}`);
    end += byteLength;
  }
  return `{${members.join(",")}}`;
}

function formatText(text: unknown): string {
  // Half a surrogate pair has no UTF-8, and no strict reader takes its escape.
  if (typeof text === "string" && !/\p{Surrogate}/u.test(text)) return JSON.stringify(text);
  const message = `${quote(String(text))} is not text that UTF-8 can hold`;
  return refuse("safetensors/header-json", message, { field: "header", value: text });
}

function checkTensors(tensors: readonly SafetensorsSpec[]): void {
  const names = new Set([METADATA_KEY]);
  for (const { name: tensor, dtype, shape } of tensors) {
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
    if (tensorByteLength(shape, SAFETENSORS_BITS[dtype]) === null) {
      const message = `${quote(tensor)} cannot be ${dtype} [${shape.join(", ")}]: its bytes are not whole or too many`;
      refuse("safetensors/size", message, { tensor, field: "shape", value: shape });
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
