/**
 * The journal of a partial file: the first line says what is being written, every further line a part that is complete on
 * disk, with the hash of its bytes. A line counts once it ends: a torn one, and all behind it, never happened.
 */

import { IsqError } from "../errors.js";
import { isRecord } from "../model/fields.js";

/** What makes two runs write the same file: any difference forbids to go on. */
export type Fingerprint = Readonly<Record<string, string | number>>;

/** A finished part: a tensor of the plan. */
export interface JournalEntry {
  readonly tensor: string;
  /** Of all bytes of the part, in the order of its places. */
  readonly sha256: string;
}

export interface Journal {
  readonly fingerprint: Fingerprint;
  readonly entries: readonly JournalEntry[];
  /** Bytes of the lines that count. */
  readonly byteLength: number;
}

const KIND = "isq journal 1";

export function formatJournalHead(fingerprint: Fingerprint): string {
  return `${JSON.stringify({ kind: KIND, fingerprint })}\n`;
}

export function formatJournalEntry(entry: JournalEntry): string {
  return `${JSON.stringify({ tensor: entry.tensor, sha256: entry.sha256 })}\n`;
}

/** Null for a journal whose first line is not whole: nothing was written under it. */
export function parseJournal(bytes: Uint8Array): Journal | null {
  const lines: { readonly end: number; readonly value: Record<string, unknown> }[] = [];
  for (let start = 0; ; ) {
    const end = bytes.indexOf(0x0a, start);
    const value = end < 0 ? null : parseLine(bytes.subarray(start, end));
    if (value === null) break;
    start = end + 1;
    lines.push({ end: start, value });
  }
  const [head, ...rest] = lines;
  const fingerprint = head?.value["fingerprint"];
  if (head?.value["kind"] !== KIND || !isRecord(fingerprint)) return null;
  const entries: JournalEntry[] = [];
  let byteLength = head.end;
  for (const { end, value } of rest) {
    const { tensor, sha256 } = value;
    if (typeof tensor !== "string" || typeof sha256 !== "string") break;
    entries.push({ tensor, sha256 });
    byteLength = end;
  }
  return { fingerprint: fingerprint as Fingerprint, entries, byteLength };
}

function parseLine(bytes: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return isRecord(value) ? value : null;
  } catch {
    return null;
  }
}

/** Throws `output/resume` naming the first field in which the two differ. */
export function checkFingerprint(file: string, found: Fingerprint, wanted: Fingerprint): void {
  for (const field of new Set([...Object.keys(wanted), ...Object.keys(found)])) {
    if (found[field] === wanted[field]) continue;
    const message = `${file} was begun with another ${field}; delete it or start anew (--restart)`;
    throw new IsqError("output/resume", message, {
      file,
      field,
      value: found[field],
      limit: wanted[field],
    });
  }
}
