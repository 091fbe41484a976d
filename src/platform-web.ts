/** `#platform` where there are no files: paths are refused, with what to pass instead. */

import { IsqError } from "./errors.js";
import type { Directory } from "./files/directory.js";

export function openDirectory(path: string): Promise<Directory> {
  return Promise.reject(
    new IsqError(
      "backend/unavailable",
      `this runtime has no file system to open ${path}; pass a Directory of Blobs`,
      {
        file: path,
      },
    ),
  );
}
