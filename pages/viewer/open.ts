/** Files that a user chose, as tensors under the names that checkpoints have. */

import { IsqError, isIsqError } from "../../src/errors.js";
import { openCheckpoint } from "../../src/files/checkpoint.js";
import { fromFiles } from "../../src/files/directory.js";
import { ggmlTypeNamed } from "../../src/files/ggml-types.js";
import { openGgufFiles } from "../../src/files/gguf-split.js";
import { openGgufCheckpoint } from "../../src/gguf-checkpoint.js";
import type { OpenFile } from "./tensor-view.js";

export interface ChosenFile extends OpenFile {
  readonly byteLength: number;
  /** Said beside the table, where there is something to say. */
  readonly note?: string;
}

const ENDINGS = ["gguf", "uqff", "safetensors"];

/** Opens a file by its ending. Throws `source/format` for others, and what its reader throws. */
export async function openChosen(file: File): Promise<ChosenFile> {
  const directory = fromFiles([[file.name, file]], "chosen");
  const ending = /\.(\w+)$/.exec(file.name.toLowerCase())?.[1] ?? "";
  const about = { byteLength: file.size };
  switch (ending) {
    case "gguf":
      return { ...about, ...(await openGgufFile(directory, file.name)) };
    case "safetensors":
      return { ...about, ...(await openCheckpoint(directory, { file: file.name })), name: file.name };
    default: {
      const message = `${file.name} has none of the endings ${ENDINGS.map((each) => `.${each}`).join(", ")}`;
      throw new IsqError("source/format", message, { file: file.name, value: ending, limit: ENDINGS });
    }
  }
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
