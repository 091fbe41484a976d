/** A folder of files, however the runtime has it. */

import { IsqError } from "../errors.js";
import { type ByteSource, fromBlob, readAll } from "./source.js";

/** A folder with the files of a model, wherever it is. */
export interface Directory {
  /** For error messages. */
  readonly name: string;
  /** Whether there is a file of this plain name. */
  has(file: string): Promise<boolean>;
  /** Opens a file by its plain name. Throws `source/open`. */
  open(file: string): Promise<ByteSource>;
}

/** Reads a whole file of at most `limit` bytes and closes it. Throws `source/*`. */
export async function readFile(directory: Directory, file: string, limit: number): Promise<Uint8Array> {
  const source = await directory.open(file);
  try {
    return await readAll(source, limit);
  } finally {
    await source.close?.();
  }
}

/** A directory over files in memory or dropped by a user, by name. */
export function fromFiles(files: Iterable<readonly [string, Blob]>, name = "files"): Directory {
  const byName = new Map(files);
  return {
    name,
    has: async (file) => byName.has(file),
    async open(file) {
      const blob = byName.get(file);
      if (blob) return fromBlob(blob, `${name}/${file}`);
      throw new IsqError("source/open", `${name} has no ${file}`, { file: `${name}/${file}` });
    },
  };
}
