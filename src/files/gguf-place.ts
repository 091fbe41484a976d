/** Where the tensors of a GGUF header lie in the file: sizes, alignment, overlaps, the end of the file. */

import { type GgmlType, ggmlByteLength, ggmlTypeOf } from "./ggml-types.js";
import {
  type GgufContext,
  type GgufEntry,
  type GgufHeader,
  type RawHeader,
  refuseGguf,
} from "./gguf-header.js";
import { padOffset } from "./gguf-values.js";
import { quote } from "./json.js";

/**
 * Places the tensors of a header in the file. Throws `gguf/duplicate`, `gguf/offsets`, `gguf/shape`, and `gguf/truncated`
 * where data would lie behind the end of the file.
 */
export function placeGgufTensors(raw: RawHeader, context: GgufContext): GgufHeader {
  const { metadata, alignment } = raw;
  const dataOffset = padOffset(raw.byteLength, alignment);
  const placed = new Map<string, GgufEntry>();
  for (const { name, typeId, shape, offset } of raw.entries) {
    if (placed.has(name)) {
      const details = { tensor: name, field: "name" };
      refuseGguf(context, "gguf/duplicate", `the tensor ${quote(name)} comes twice`, details);
    }
    if (offset % alignment !== 0) {
      const message = `the data of ${quote(name)} at ${offset} is not aligned to ${alignment}`;
      const details = { tensor: name, field: "offset", value: offset, limit: alignment };
      refuseGguf(context, "gguf/offsets", message, details);
    }
    const type = ggmlTypeOf(typeId);
    const byteLength = type && type.blockElements > 0 ? sizeOf(context, name, type, shape) : -1;
    const dtype = type?.name ?? `#${typeId}`;
    placed.set(name, { name, dtype, typeId, shape, byteOffset: dataOffset + offset, byteLength });
  }
  const warnings = [...raw.warnings];
  for (const entry of checkPlaces(context, [...placed.values()])) {
    placed.set(entry.name, entry);
    warnings.push(`${quote(entry.name)} has the type ${entry.dtype}, which cannot be read`);
  }
  warnings.push(...oddPlaces([...placed.values()], dataOffset, alignment, context.fileByteLength));
  return { metadata, tensors: placed, alignment, dataOffset, warnings };
}

/** Walks the data from its start. Returns the entries of unknown size (-1), which end where the next one starts. */
function checkPlaces(context: GgufContext, entries: readonly GgufEntry[]): GgufEntry[] {
  const { fileByteLength } = context;
  const sized: GgufEntry[] = [];
  const ordered = [...entries].sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  for (let i = 0; i < ordered.length; i++) {
    const { name: tensor, byteOffset } = ordered[i];
    const next = ordered[i + 1]?.byteOffset ?? Math.max(fileByteLength, byteOffset);
    let { byteLength } = ordered[i];
    if (byteLength < 0) {
      byteLength = next - byteOffset;
      sized.push({ ...ordered[i], byteLength });
    }
    const end = byteOffset + byteLength;
    const details = { tensor, field: "offset", value: end };
    if (end > fileByteLength && byteLength > 0) {
      const message = `the data of ${quote(tensor)} ends at ${end} and the file at ${fileByteLength}`;
      refuseGguf(context, "gguf/truncated", message, { ...details, limit: fileByteLength });
    }
    if (end > next && byteLength > 0) {
      const message = `the data of ${quote(tensor)} overlaps that of ${quote(ordered[i + 1].name)}`;
      refuseGguf(context, "gguf/offsets", message, { ...details, limit: next });
    }
  }
  return sized;
}

/** What ggml refuses and other readers take: data in another order than the names, bytes that are no tensor's. */
function oddPlaces(entries: GgufEntry[], dataOffset: number, alignment: number, fileEnd: number): string[] {
  const warnings: string[] = [];
  const displaced = entries.find((entry, i) => i > 0 && entry.byteOffset < entries[i - 1].byteOffset);
  if (displaced)
    warnings.push(`the data of ${quote(displaced.name)} lies before that of the tensor named before it`);
  let end = dataOffset;
  let between = 0;
  for (const { byteOffset, byteLength } of entries.sort((a, b) => a.byteOffset - b.byteOffset)) {
    between += Math.max(0, byteOffset - padOffset(end, alignment));
    end = Math.max(end, byteOffset + byteLength);
  }
  if (between > 0) warnings.push(`${between} bytes between the tensors are no tensor's`);
  const behind = fileEnd - padOffset(end, alignment);
  if (behind > 0) warnings.push(`${behind} bytes behind the last tensor are no tensor's`);
  return warnings;
}

/** Bytes of a tensor of known type. Zeros do not mend dimensions whose product is beyond 2^53. */
function sizeOf(context: GgufContext, tensor: string, type: GgmlType, shape: readonly number[]): number {
  const elements = shape.reduce((product, size) => product * BigInt(size || 1), 1n);
  const byteLength = elements > MOST_ELEMENTS ? null : ggmlByteLength(type, shape);
  if (byteLength !== null) return byteLength;
  const row = shape.at(-1) ?? 1;
  const why =
    row % type.blockElements === 0
      ? "has too many elements"
      : `has rows of ${row}, not a multiple of ${type.blockElements}`;
  const message = `${quote(tensor)}, ${type.name} [${shape.join(", ")}], ${why}`;
  return refuseGguf(context, "gguf/shape", message, { tensor, field: "shape", value: shape });
}

const MOST_ELEMENTS = BigInt(Number.MAX_SAFE_INTEGER);
