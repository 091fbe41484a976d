/** Files that a user chose, as tensors under the names that checkpoints have. */

import { IsqError, isIsqError } from "../../src/errors.js";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { fromFiles } from "../../src/files/directory.js";
import { ggmlTypeNamed } from "../../src/files/ggml-types.js";
import { openGgufFiles } from "../../src/files/gguf-split.js";
import { openGgufCheckpoint } from "../../src/gguf-checkpoint.js";
import { openUqffCheckpoint, UQFF_RESIDUAL } from "../../src/uqff-checkpoint.js";
import type { OpenFile } from "./tensor-view.js";

export interface ChosenFile extends OpenFile {
  readonly byteLength: number;
  /** Said beside the table, where there is something to say. */
  readonly note?: string;
}

const ENDINGS = ["gguf", "uqff", "safetensors"];

/**
 * Opens a file by its ending. What was chosen beside it may belong to it: further shards, the set's other tensors, its config,
 * its report. Throws `source/format` for others, and what its reader throws.
 */
export async function openChosen(files: readonly File[]): Promise<ChosenFile> {
  const file = firstOf(files);
  const directory = fromFiles(
    files.map((each) => [each.name, each]),
    "chosen",
  );
  const ending = /\.(\w+)$/.exec(file.name.toLowerCase())?.[1] ?? "";
  const about = { byteLength: file.size };
  switch (ending) {
    case "gguf":
      return { ...about, ...(await openGgufFile(directory, file.name)) };
    case "safetensors":
      return { ...about, ...(await openCheckpoint(directory, { file: file.name })), name: file.name };
    case "uqff":
      return { byteLength: totalOf(files), ...(await openUqffFile(directory, file.name, files)) };
    default: {
      const message = `${file.name} has none of the endings ${ENDINGS.map((each) => `.${each}`).join(", ")}`;
      throw new IsqError("source/format", message, { file: file.name, value: ending, limit: ENDINGS });
    }
  }
}

/** Of a set, the first shard says what all of it is. */
function firstOf(files: readonly File[]): File {
  const shards = files.filter(({ name }) => name.toLowerCase().endsWith(".uqff"));
  const number = ({ name }: File) => Number(/-(\d+)\.uqff$/i.exec(name)?.[1] ?? 0);
  return shards.sort((a, b) => number(a) - number(b))[0] ?? files[0];
}

const totalOf = (files: readonly File[]): number => files.reduce((sum, { size }) => sum + size, 0);

/** Layers under the names of their weights; the tensors that were not quantized where their file was chosen too. */
async function openUqffFile(
  directory: ReturnType<typeof fromFiles>,
  name: string,
  files: readonly File[],
): Promise<OpenFile & { note?: string }> {
  const residual = files.some((file) => file.name === UQFF_RESIDUAL);
  const checkpoint = await openUqffCheckpoint(directory, name, { residual });
  const { shards, layers, version } = checkpoint.uqff;
  const set = `${layers.size} layers of UQFF ${version} in ${shards.length} shard${shards.length > 1 ? "s" : ""}`;
  const note = residual ? set : `${set}; choose ${UQFF_RESIDUAL} as well for the other tensors`;
  return { ...checkpoint, name, note };
}

/** With the names and rows of checkpoints where the architecture is known, else as the file has them. */
async function openGgufFile(
  directory: ReturnType<typeof fromFiles>,
  name: string,
): Promise<OpenFile & { note?: string }> {
  try {
    const { checkpoint } = await openGgufCheckpoint(directory, name);
    return { ...checkpoint, name };
  } catch (error) {
    if (!isIsqError(error) || !/^(architecture|config|gguf\/metadata)/.test(error.tag)) throw error;
    const files = await openGgufFiles(directory, name);
    const tensors = new Map(
      [...files.tensors].map(([key, entry]) => [
        key,
        { ...entry, dtype: ggmlTypeNamed(entry.dtype)?.isq ?? entry.dtype },
      ]),
    );
    return { name, tensors, readRange: files.readRange, note: `names as in the file: ${error.message}` };
  }
}
