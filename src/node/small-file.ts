/** Small files, complete or not there. */

import { open, rename, rm } from "node:fs/promises";
import { IsqError } from "../errors.js";

/** Writes a file beside its place and renames it, replacing what was there. Throws `output/write`. */
export async function writeSmallFile(path: string, content: string | Uint8Array): Promise<void> {
  const partial = `${path}.partial`;
  try {
    const handle = await open(partial, "w");
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, path);
  } catch (cause) {
    await rm(partial, { force: true }).catch(() => {}); // the first error tells more
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new IsqError(
      "output/write",
      `cannot write ${path}: ${reason}`,
      { file: path, value: reason },
      { cause },
    );
  }
}
