/** Opening a model: its config, its program, and a checkpoint that has every tensor the program needs. */

import type { DenseType } from "./backends/backend.js";
import type { Program, WeightSpec } from "./backends/program.js";
import { DENSE_BYTES } from "./dense.js";
import { IsqError } from "./errors.js";
import { type Checkpoint, openCheckpoint } from "./files/checkpoint.js";
import { type Directory, readFile } from "./files/directory.js";
import { LIMITS } from "./limits.js";
import { compileModel } from "./model/architectures/index.js";
import { type ModelConfig, parseConfig } from "./model/config.js";
import type { SourceTensor } from "./plan.js";

/** A model that is open but not loaded: no weight has been read. */
export interface OpenedModel {
  readonly directory: Directory;
  readonly config: ModelConfig;
  readonly program: Program;
  readonly checkpoint: Checkpoint;
  /** The checkpoint's tensor for a weight of the program; a tied head gets its embedding's. */
  sourceOf(weight: WeightSpec): SourceTensor;
}

/**
 * Opens a model folder. Reads config.json and the headers of the safetensors files only. Throws `config/*`,
 * `architecture/unknown`, `safetensors/*`, and `tensor/missing` or `tensor/shape` for the first weight that is not as the
 * architecture needs it.
 */
export async function openModel(directory: Directory, architecture?: string): Promise<OpenedModel> {
  const config = parseConfig(await readText(directory, "config.json", "config/missing"));
  const program = compileModel(config, architecture);
  const checkpoint = await openCheckpoint(directory);
  const sourceOf = (weight: WeightSpec) => findSource(checkpoint, weight);
  try {
    for (const weight of program.weights) sourceOf(weight);
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
  return { directory, config, program, checkpoint, sourceOf };
}

/** Reads a small text file of the folder. Throws the given tag when it is not there. */
export async function readText(
  directory: Directory,
  file: string,
  missing: "config/missing" | "tokenizer/missing",
): Promise<string> {
  if (!(await directory.has(file))) {
    throw new IsqError(missing, `${directory.name} has no ${file}`, { file: `${directory.name}/${file}` });
  }
  return new TextDecoder().decode(await readFile(directory, file, LIMITS.jsonBytes));
}

function findSource(checkpoint: Checkpoint, weight: WeightSpec): SourceTensor {
  const own = checkpoint.tensors.get(weight.name);
  const found = own ?? (weight.tiedTo === undefined ? undefined : checkpoint.tensors.get(weight.tiedTo));
  const wanted = `[${weight.shape.join(", ")}]`;
  if (!found) {
    throw new IsqError("tensor/missing", `${checkpoint.name} lacks ${weight.name} ${wanted}`, {
      file: checkpoint.name,
      tensor: weight.name,
      limit: weight.shape,
    });
  }
  if (found.shape.length !== weight.shape.length || found.shape.some((size, i) => size !== weight.shape[i])) {
    const message = `${weight.name} is [${found.shape.join(", ")}] in ${checkpoint.name} and must be ${wanted}`;
    throw new IsqError("tensor/shape", message, {
      file: checkpoint.name,
      tensor: weight.name,
      field: "shape",
      value: found.shape,
      limit: weight.shape,
    });
  }
  if (!(found.dtype in DENSE_BYTES)) {
    const message = `${weight.name} is ${found.dtype} in ${checkpoint.name}; weights may be ${Object.keys(DENSE_BYTES).join(", ")}`;
    throw new IsqError("safetensors/dtype", message, {
      file: checkpoint.name,
      tensor: weight.name,
      field: "dtype",
      value: found.dtype,
      limit: Object.keys(DENSE_BYTES),
    });
  }
  return { name: found.name, type: found.dtype as DenseType, shape: found.shape };
}
