/** A byte source over a file. */

import { type FileHandle, open } from "node:fs/promises";
import { IsqError } from "../errors.js";
import type { ByteSource } from "../files/source.js";

/** Opens a file for reading by ranges. Throws `source/open` with the path and the system's reason. */
export async function openFile(path: string): Promise<ByteSource> {
  let handle: FileHandle;
  let byteLength: number;
  try {
    handle = await open(path, "r");
    const stats = await handle.stat();
    if (!stats.isFile()) {
      await handle.close();
      throw new Error("it is not a regular file");
    }
    byteLength = stats.size;
  } catch (cause) {
    const reason = (cause as Error).message;
    throw new IsqError(
      "source/open",
      `cannot open ${path}: ${reason}`,
      { file: path, value: reason },
      { cause },
    );
  }
  return {
    name: path,
    byteLength,
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
    close: () => handle.close(),
  };
}
