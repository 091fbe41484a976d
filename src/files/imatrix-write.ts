/** Importance matrices in the two forms that have means only. */

import { LIMITS } from "../limits.js";
import { type Imatrix, type ImatrixEntry, isEntryName, meansOf, refuseImatrix } from "./imatrix-entry.js";
import { quote } from "./json.js";

/** Writes the current `.cimatrix`: means by module path. Throws `imatrix/*` for what could not be read back. */
export function writeCimatrix(entries: ReadonlyMap<string, ImatrixEntry>): Uint8Array {
  const file = "the .cimatrix file";
  checkCount(entries, file);
  const parts = [wide(entries.size)];
  for (const [name, entry] of entries) {
    const { key, means } = checkEntry(name, entry, file);
    parts.push(wide(key.byteLength), key, wide(means.length), bytesOf(means));
  }
  return concatenate(parts);
}

/**
 * Writes llama.cpp's older form, names as in GGUF: means as of one call each, so that dividing them is exact; how many tokens
 * they are of is lost. Throws `imatrix/*` for what could not be read back.
 */
export function writeLegacyImatrix({
  entries,
  datasets,
  chunks = 0,
}: Pick<Imatrix, "entries" | "datasets" | "chunks">): Uint8Array {
  const file = "the .imatrix file";
  checkCount(entries, file);
  const parts = [word(entries.size)];
  for (const [name, entry] of entries) {
    const { key, means } = checkEntry(name, entry, file);
    parts.push(word(key.byteLength), key, word(1), word(means.length), bytesOf(means));
  }
  const dataset = new TextEncoder().encode(datasets.join(", "));
  return concatenate([...parts, word(chunks), word(dataset.byteLength), dataset]);
}

function checkCount(entries: ReadonlyMap<string, ImatrixEntry>, file: string): void {
  const limit = LIMITS.imatrixEntries;
  if (entries.size >= 1 && entries.size <= limit) return;
  const message = `it would have ${entries.size} entries, not 1 to ${limit}`;
  refuseImatrix({ file }, "imatrix/count", message, { field: "entries", value: entries.size, limit });
}

function checkEntry(name: string, entry: ImatrixEntry, file: string) {
  const key = new TextEncoder().encode(name);
  const means = meansOf(entry);
  if (isEntryName(name) && key.byteLength <= LIMITS.tensorNameLength && means.length > 0)
    return { key, means };
  const details = { field: "name", value: name };
  return refuseImatrix({ file }, "imatrix/name", `${quote(name)} cannot be written`, details);
}

const wide = (count: number) => bytesOf(BigUint64Array.of(BigInt(count)));
const word = (count: number) => bytesOf(Int32Array.of(count));
const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}
