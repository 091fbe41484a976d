/** Whether a file has the bytes that its layout and its journal say. */

import { createHash } from "node:crypto";
import type { SaveFile, SaveTarget } from "../save.js";
import { type Files, type Handle, readAll } from "./files.js";
import type { JournalEntry } from "./journal.js";

const READ_BYTES = 4 * 2 ** 20;

/** Whether the file has the fixed bytes, and every tensor the bytes that its journal entry says. */
export async function isComplete(
  files: Files,
  path: string,
  layout: SaveFile,
  entries: readonly JournalEntry[],
): Promise<boolean> {
  const hashes = new Map(entries.map(({ tensor, sha256 }) => [tensor, sha256]));
  const handle = await files.open(path, "r");
  try {
    for (const { byteOffset, bytes } of layout.fixed) {
      const found = new Uint8Array(bytes.byteLength);
      await readAll(handle, found, byteOffset);
      if (Buffer.compare(found, bytes) !== 0) return false;
    }
    for (const [tensor, targets] of layout.targets) {
      if (hashes.get(tensor) !== (await hashTargets(handle, targets))) return false;
    }
    return true;
  } finally {
    await handle.close();
  }
}

/** Of all bytes of a tensor, in the order of its places. */
export async function hashTargets(
  handle: Handle,
  targets: readonly Pick<SaveTarget, "byteOffset" | "byteLength">[],
): Promise<string> {
  const hash = createHash("sha256");
  for (const { byteOffset, byteLength } of targets) {
    const buffer = new Uint8Array(Math.min(byteLength, READ_BYTES));
    for (let done = 0; done < byteLength; done += buffer.byteLength) {
      const piece = buffer.subarray(0, Math.min(buffer.byteLength, byteLength - done));
      await readAll(handle, piece, byteOffset + done);
      hash.update(piece);
    }
  }
  return hash.digest("hex");
}

/** Whether two files have the same bytes. */
export async function haveSameBytes(files: Files, a: string, b: string): Promise<boolean> {
  const hashes: string[] = [];
  for (const path of [a, b]) {
    const handle = await files.open(path, "r");
    try {
      const { size } = await handle.stat();
      hashes.push(`${size} ${await hashTargets(handle, [{ byteOffset: 0, byteLength: size }])}`);
    } finally {
      await handle.close();
    }
  }
  return hashes[0] === hashes[1];
}
