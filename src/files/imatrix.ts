/**
 * Importance matrices: sums of squared activations per input column, by tensor. Four containers are read: llama.cpp's older
 * one, its GGUF form, and both `.cimatrix` generations of mistral.rs. All but the numbered
 * `.cimatrix` are written. All are little-endian.
 *
 * What values mean is left to the plan: NaN, zeros and wrong lengths are read as they are, and the plan says what it drops.
 */

import { LIMITS } from "../limits.js";
import { type Cursor, openCursor } from "./cursor.js";
import { type Imatrix, type ImatrixEntry, isEntryName, refuseImatrix } from "./imatrix-entry.js";
import { readImatrixGguf } from "./imatrix-gguf.js";
import { quote } from "./json.js";
import { type ByteSource, readAll, readRange } from "./source.js";

export { type Imatrix, type ImatrixEntry, type ImatrixFormat, meansOf } from "./imatrix-entry.js";
export { writeImatrixGguf } from "./imatrix-gguf.js";
export { writeCimatrix, writeLegacyImatrix } from "./imatrix-write.js";

/**
 * Reads an importance matrix; the content says which container it is. Throws `imatrix/*`, `gguf/*` and `source/*`.
 */
export async function openImatrix(source: ByteSource): Promise<Imatrix> {
  const head = await readRange(source, 0, Math.min(HEAD_BYTES, source.byteLength));
  if (new TextDecoder("latin1").decode(head.subarray(0, 4)) === "GGUF") return readImatrixGguf(source);
  const bytes = await readAll(source, LIMITS.imatrixBytes);
  const reader: Reader = { file: source.name, cursor: openCursor(bytes, { file: source.name, tags: TAGS }) };
  // Counts of 64 bits have zeros where llama.cpp's files have the length of a name, which cannot be empty.
  const wide = head.byteLength >= 8 && head.subarray(4, 8).every((byte) => byte === 0);
  if (!wide) return readLegacy(reader);
  // The 17th byte is a flag or the first character of a name.
  return head[16] <= 1 ? readNumbered(reader) : readNamed(reader);
}

/** Enough to tell the containers apart. */
const HEAD_BYTES = 17;

interface Reader {
  readonly file: string;
  readonly cursor: Cursor;
}

const TAGS = { end: "imatrix/truncated", integer: "imatrix/count", text: "imatrix/name" } as const;

/** i32 count; per entry i32 name length, name, i32 calls, i32 values, f32 values; then perhaps where they come from. */
function readLegacy(reader: Reader): Imatrix {
  const { cursor } = reader;
  const entries = new Map<string, ImatrixEntry>();
  const count = checkCount(reader, "the entry count", cursor.i32("the entry count"), 4 + 1 + 4 + 4 + 4);
  for (let i = 0; i < count; i++) {
    const name = readName(reader, cursor.i32("the length of a name"), entries);
    const calls = cursor.i32(`the calls of ${quote(name)}`);
    if (calls < 0)
      refuseImatrix(reader, "imatrix/count", `${quote(name)} has ${calls} calls`, { tensor: name });
    const field = `the values of ${quote(name)}`;
    const sums = readValues(reader, field, cursor.i32(field));
    // Without calls the values are taken as they are.
    entries.set(name, { sums, counts: [calls || 1] });
  }
  return { format: "legacy", entries, ...readTrailer(reader) };
}

/** i32 chunks, and in later files i32 length and name of the text. */
function readTrailer(reader: Reader): Pick<Imatrix, "datasets" | "chunks"> {
  const { cursor } = reader;
  if (cursor.remaining === 0) return { datasets: [] };
  const chunks = cursor.i32("the chunk count");
  if (cursor.remaining === 0) return { datasets: [], chunks };
  const field = "the name of the text";
  const dataset = cursor.text(cursor.i32(`the length of ${field}`), field);
  refuseRest(reader);
  return { datasets: dataset === "" ? [] : [dataset], chunks };
}

/** u64 count; per entry u64 length of the name, name, u64 values, f32 values. */
function readNamed(reader: Reader): Imatrix {
  const { cursor } = reader;
  const entries = new Map<string, ImatrixEntry>();
  const count = checkCount(reader, "the entry count", cursor.u64("the entry count"), 8 + 1 + 8 + 4);
  for (let i = 0; i < count; i++) {
    const name = readName(reader, cursor.u64("the length of a name"), entries);
    const field = `the values of ${quote(name)}`;
    entries.set(name, { sums: readValues(reader, field, cursor.u64(field)), counts: [1] });
  }
  refuseRest(reader);
  return { format: "cimatrix", entries, datasets: [] };
}

/** u64 count; per entry u64 number, u8 whether it has data, and then u64 values, f32 values. */
function readNumbered(reader: Reader): Imatrix {
  const { cursor } = reader;
  const entries = new Map<string, ImatrixEntry>();
  const seen = new Set<number>();
  const count = checkCount(reader, "the entry count", cursor.u64("the entry count"), 8 + 1);
  for (let i = 0; i < count; i++) {
    const index = cursor.u64("the number of a layer");
    const value = index;
    if (index >= LIMITS.imatrixEntries) {
      const limit = LIMITS.imatrixEntries;
      refuseImatrix(reader, "imatrix/count", `there is no layer ${index}`, { field: "layer", value, limit });
    }
    if (seen.has(index)) {
      refuseImatrix(reader, "imatrix/duplicate", `the layer ${index} comes twice`, { field: "layer", value });
    }
    seen.add(index);
    const flag = cursor.u8(`the flag of layer ${index}`);
    if (flag > 1) {
      const message = `the flag of layer ${index} is ${flag}, not 0 or 1`;
      refuseImatrix(reader, "imatrix/value", message, { field: "flag", value: flag, limit: 1 });
    }
    const field = `the values of layer ${index}`;
    if (flag === 1) {
      entries.set(String(index), { sums: readValues(reader, field, cursor.u64(field)), counts: [1] });
    }
  }
  refuseRest(reader);
  return { format: "cimatrix-v1", entries, datasets: [] };
}

function readName(reader: Reader, byteLength: number, entries: ReadonlyMap<string, ImatrixEntry>): string {
  const field = "a name";
  const limit = LIMITS.tensorNameLength;
  if (byteLength < 1 || byteLength > limit) {
    const message = `a name has ${byteLength} bytes, not 1 to ${limit}`;
    refuseImatrix(reader, "imatrix/count", message, { field, value: byteLength, limit });
  }
  const name = reader.cursor.text(byteLength, field);
  if (!isEntryName(name)) {
    refuseImatrix(reader, "imatrix/name", `${quote(name)} is no name for a tensor`, { field, value: name });
  }
  if (entries.has(name)) {
    refuseImatrix(reader, "imatrix/duplicate", `${quote(name)} comes twice`, { tensor: name, field });
  }
  return name;
}

function readValues(reader: Reader, field: string, count: number): Float32Array {
  if (count < 1) {
    refuseImatrix(reader, "imatrix/count", `${field} are ${count}`, { field, value: count, limit: 1 });
  }
  // Copied: a view needs an aligned start.
  return new Float32Array(reader.cursor.bytes(4 * count, field).slice().buffer);
}

/** Refuses counts that the rest of the file cannot hold. */
function checkCount(reader: Reader, field: string, count: number, entryBytes: number): number {
  const limit = Math.min(LIMITS.imatrixEntries, Math.floor(reader.cursor.remaining / entryBytes));
  if (count >= 1 && count <= limit) return count;
  const message = `${field} is ${count}, not 1 to ${limit}`;
  return refuseImatrix(reader, "imatrix/count", message, { field, value: count, limit });
}

function refuseRest(reader: Reader): void {
  const { remaining, byteOffset } = reader.cursor;
  if (remaining === 0) return;
  const message = `${remaining} bytes follow where the file should end`;
  refuseImatrix(reader, "imatrix/trailing", message, { field: "end", value: remaining, byteOffset });
}
