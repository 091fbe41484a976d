/** A byte source over a file. */

import type { Stats } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { IsqError } from "../errors.js";
import type { ByteSource } from "../files/source.js";

/** Opens a file for reading by ranges. Throws `source/open` with the path and the system's reason. */
export async function openFile(path: string): Promise<ByteSource> {
  const { handle, opened } = await openRegular(path).catch((cause) => {
    const reason = (cause as Error).message;
    const details = { file: path, value: reason };
    throw new IsqError("source/open", `cannot open ${path}: ${reason}`, details, { cause });
  });
  return {
    name: path,
    path: resolve(path), // workers may have another working folder
    byteLength: opened.size,
    async slice(start, end) {
      const bytes = new Uint8Array(end - start);
      let done = 0;
      while (done < bytes.byteLength) {
        const { bytesRead } = await handle.read(bytes, done, bytes.byteLength - done, start + done);
        if (bytesRead === 0) break; // shorter than it was when opened: readRange reports it
        done += bytesRead;
      }
      return bytes.subarray(0, done);
    },
    findChange: () => findChange(path, opened),
    close: () => handle.close(),
  };
}

/** Looks at the path, which is what workers open. */
async function findChange(path: string, opened: Stats): Promise<string | null> {
  try {
    const now = await stat(path);
    const same = (["dev", "ino", "size", "mtimeMs"] as const).every((field) => now[field] === opened[field]);
    return same ? null : `${path} was changed since it was opened`;
  } catch (error) {
    return `${path} is no longer there: ${(error as Error).message}`;
  }
}

async function openRegular(path: string): Promise<{ handle: FileHandle; opened: Stats }> {
  // Asked before opening, because opening a pipe waits for its other end.
  if (!(await stat(path)).isFile()) throw new Error("it is not a regular file");
  const handle = await open(path, "r");
  try {
    return { handle, opened: await handle.stat() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
