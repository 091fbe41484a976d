/** Files that the commands look into: one, or all of a model's folder. */

import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { openCheckpoint } from "../files/checkpoint.js";
import { type Directory, readFile } from "../files/directory.js";
import { openGgufFiles } from "../files/gguf-split.js";
import type { ByteSource } from "../files/source.js";
import { parseUqffReport, UQFF_REPORT, type UqffClaim } from "../files/uqff-report.js";
import { type InspectedFile, inspectFile } from "../inspect.js";
import { LIMITS } from "../limits.js";
import { openDirectory } from "../node/directory.js";
import { openFile } from "../node/file-source.js";
import { openUqffCheckpoint, UQFF_RESIDUAL } from "../uqff-checkpoint.js";

interface Sources {
  readonly sources: readonly ByteSource[];
  close(): Promise<void>;
}

/** Opens a file, or the files of a model's folder, hands them over and closes them. Throws as `inspectFile`. */
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

async function openSources(path: string): Promise<Sources> {
  if (!(await isFolder(path))) {
    const source = await openFile(path);
    return { sources: [source], close: async () => source.close?.() };
  }
  const directory = await openDirectory(path);
  if (!(await directory.has(UQFF_REPORT))) return openCheckpoint(directory);
  const claims = await readClaims(directory);
  const sources: ByteSource[] = [];
  const close = async () => {
    for (const source of sources) await source.close?.();
  };
  try {
    for (const name of [...claims.flatMap(({ shards }) => shards), UQFF_RESIDUAL]) {
      sources.push(await directory.open(name));
    }
    return { sources, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Throws unless every shard among the files belongs to a complete set, of UQFF or GGUF. */
export async function checkSets(path: string, files: readonly InspectedFile[]): Promise<void> {
  const has = (wanted: string) => files.some(({ format }) => format === wanted);
  if (!has("uqff") && !has("gguf")) return;
  const folder = await isFolder(path);
  const directory = await openDirectory(folder ? path : dirname(path));
  if (has("gguf")) {
    await (await openGgufFiles(directory, basename(path))).close();
    return;
  }
  const first = folder ? (await readClaims(directory)).map(({ shards }) => shards[0]) : [basename(path)];
  for (const name of first) await (await openUqffCheckpoint(directory, name)).close();
}

async function readClaims(directory: Directory): Promise<readonly UqffClaim[]> {
  const text = new TextDecoder().decode(await readFile(directory, UQFF_REPORT, LIMITS.jsonBytes));
  return parseUqffReport(text, `${directory.name}/${UQFF_REPORT}`);
}

export function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}
