/** Files that the commands look into: one, or all of a model's folder. */

import { stat } from "node:fs/promises";
import { openCheckpoint } from "../files/checkpoint.js";
import type { ByteSource } from "../files/source.js";
import { type InspectedFile, inspectFile } from "../inspect.js";
import { openDirectory } from "../node/directory.js";
import { openFile } from "../node/file-source.js";

/** Opens a file, or the safetensors files of a folder, hands them over and closes them. Throws as `inspectFile`. */
export async function withFiles<Result>(
  path: string,
  use: (files: readonly InspectedFile[]) => Promise<Result>,
): Promise<Result> {
  const { sources, close } = await openSources(path);
  try {
    const files: InspectedFile[] = [];
    for (const source of sources) files.push(await inspectFile(source));
    return await use(files);
  } finally {
    await close();
  }
}

async function openSources(
  path: string,
): Promise<{ sources: readonly ByteSource[]; close(): Promise<void> }> {
  const isFolder = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  if (isFolder) return openCheckpoint(await openDirectory(path));
  const source = await openFile(path);
  return { sources: [source], close: async () => source.close?.() };
}
