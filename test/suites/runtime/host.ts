/** What the suite needs of whoever runs it. */

import { type Directory, fromFiles } from "../../../src/files/directory.js";
import type { Vectors } from "../../../src/vectors/parse.js";

export interface Host {
  /** Bytes of a file of the project. */
  read(path: string): Promise<Uint8Array>;
  /** Names of the files in a folder of the project. */
  list(folder: string): Promise<readonly string[]>;
  readVectors(): Promise<Vectors>;
}

const MODEL = "models/tiny-mistral";

/** The model, from memory: the same way in every runtime. */
export async function modelDirectory(host: Host): Promise<Directory> {
  const names = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ];
  const there = await host.list(MODEL);
  const files: [string, Blob][] = [];
  for (const name of names.filter((each) => there.includes(each))) {
    files.push([name, new File([(await host.read(`${MODEL}/${name}`)) as BlobPart], name)]);
  }
  return fromFiles(files, MODEL);
}
