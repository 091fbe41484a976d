/** What writing files asks of the system: whole reads and writes, and failures as tagged errors. */

import type { Stats } from "node:fs";
import type * as nodeFiles from "node:fs/promises";
import { dirname } from "node:path";
import { type ErrorTag, IsqError, isIsqError } from "../errors.js";

/** The calls that are made to the system; tests let them fail one by one. */
export type Files = Pick<
  typeof nodeFiles,
  "open" | "rename" | "rm" | "stat" | "statfs" | "readFile" | "mkdir"
>;
export type Handle = nodeFiles.FileHandle;

export async function readAll(handle: Handle, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.byteLength; ) {
    const { bytesRead } = await handle.read(target, done, target.byteLength - done, position + done);
    if (bytesRead === 0) throw new Error(`it ends at byte ${position + done}`);
    done += bytesRead;
  }
}

export async function writeAll(handle: Handle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    if (bytesWritten === 0) throw new Error("nothing could be written");
    done += bytesWritten;
  }
}

/** Null where there is none. */
export async function statOf(files: Files, path: string): Promise<Stats | null> {
  return files.stat(path).catch((error) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  });
}

/** Whether a path leads to the file that was looked at. */
export async function isSameFile(files: Files, path: string, { dev, ino }: Stats): Promise<boolean> {
  const stats = await statOf(files, path);
  return stats?.dev === dev && stats.ino === ino;
}

/** The content of a small file; null where there is none. */
export async function readOptional(files: Files, path: string): Promise<Uint8Array | null> {
  return (await statOf(files, path)) === null ? null : files.readFile(path);
}

/** A rename is on disk when its folder is. */
export async function syncFolder(files: Files, path: string): Promise<void> {
  if (process.platform === "win32") return; // has no such call, and none is needed
  const folder = await files.open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

export async function closeAll(opened: Handle[]): Promise<void> {
  for (const handle of opened.splice(0)) await handle.close();
}

/** Turns what the system refuses into `output/write`. */
export async function attempt<Result>(
  file: string,
  doing: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    if (isIsqError(cause)) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const tag: ErrorTag = "output/write";
    throw new IsqError(tag, `${file}: cannot ${doing}: ${reason}`, { file, value: reason }, { cause });
  }
}
