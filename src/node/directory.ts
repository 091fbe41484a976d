/** A folder on disk. */

import { stat } from "node:fs/promises";
import { join } from "node:path";
import { IsqError } from "../errors.js";
import type { Directory } from "../files/directory.js";
import { openFile } from "./file-source.js";

/** Opens a folder. Throws `source/open` when it is not one. */
export async function openDirectory(path: string): Promise<Directory> {
  const stats = await stat(path).catch((cause) => {
    throw new IsqError(
      "source/open",
      `cannot open ${path}: ${(cause as Error).message}`,
      { file: path },
      { cause },
    );
  });
  if (!stats.isDirectory()) {
    throw new IsqError("source/open", `${path} is a file; a model is a folder`, { file: path });
  }
  return {
    name: path,
    has: (file) =>
      stat(join(path, file)).then(
        (found) => found.isFile(),
        () => false,
      ),
    open: (file) => openFile(join(path, file)),
  };
}
