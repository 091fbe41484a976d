/** SHA-256 of sources, by the runtime's own implementation where it has one. */

import { checkAborted } from "./errors.js";
import { type ByteSource, readRange } from "./files/source.js";

export interface Hasher {
  update(bytes: Uint8Array): void;
  /** Lower-case hexadecimal digits. */
  finish(): string;
}

const READ_BYTES = 4 * 2 ** 20;

/** The hash of a range of a source, of all of it when none is given. Throws `source/*`, `aborted`. */
export async function hashSource(
  source: ByteSource,
  { start = 0, end = source.byteLength, signal }: { start?: number; end?: number; signal?: AbortSignal } = {},
): Promise<string> {
  const pieces = async function* () {
    for (let at = start; at < end; at += READ_BYTES) {
      checkAborted(signal);
      yield readRange(source, at, Math.min(end, at + READ_BYTES));
    }
  };
  return hashPieces(pieces());
}

/** The hash of pieces one after the other. */
export async function hashPieces(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const { openHasher } = await import("#platform");
  const hasher = openHasher();
  for await (const piece of pieces) hasher.update(piece);
  return hasher.finish();
}
