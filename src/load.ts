/** Opening a model: its config, its program, and a checkpoint that has every tensor the program needs. */

import type { Program, WeightSpec } from "./backends/program.js";
import { DENSE_BYTES, isDense } from "./dense.js";
import { IsqError } from "./errors.js";
import { type Checkpoint, type CheckpointEntry, openCheckpoint } from "./files/checkpoint.js";
import { type Directory, readFile } from "./files/directory.js";
import { type OpenedGguf, openGgufCheckpoint } from "./gguf-checkpoint.js";
import { LIMITS } from "./limits.js";
import { compileModel } from "./model/architectures/index.js";
import { type ModelConfig, parseConfig } from "./model/config.js";
import { tokenizerOfMetadata } from "./model/gguf/tokenizer-read.js";
import { createTokenizer, openTokenizer, type Tokenizer, type TokenizerSource } from "./model/tokenizer.js";
import type { SourceTensor } from "./plan.js";
import { type IsqType, TYPE_NAMES, TYPES } from "./quants/table.js";
import { presentCheckpoint, shapeError } from "./stored.js";
import { openUqffCheckpoint } from "./uqff-checkpoint.js";

/** A model that is open but not loaded: no weight has been read. */
export interface OpenedModel {
  readonly directory: Directory;
  /** The folder whose tokenizer it has, where that is not the model's. */
  readonly tokenizerDirectory: Directory | null;
  readonly config: ModelConfig;
  readonly program: Program;
  readonly checkpoint: Checkpoint;
  /** The GGUF file that the model is in, or null. */
  readonly gguf: OpenedGguf | null;
  /** The checkpoint's tensor for a weight of the program; a tied head gets its embedding's. */
  sourceOf(weight: WeightSpec): SourceTensor;
}

export interface OpenOptions {
  /** Name of an architecture; without it the config says. */
  readonly architecture?: string;
  /** A GGUF file of the folder, or any shard of one, to take config and weights from. */
  readonly gguf?: string;
  /** UQFF shards of the folder to take the weights from; see {@link openUqffCheckpoint} for the ways to name them. */
  readonly uqff?: string;
  /** A folder to take the tokenizer from. */
  readonly tokenizer?: Directory;
}

/**
 * Opens a model folder. Reads config.json and the headers of the safetensors or UQFF files only, or the header of a GGUF
 * file. Throws `option/conflict` for both a GGUF and UQFF files, `config/*`, `architecture/unknown`, `safetensors/*`,
 * `gguf/*`, `uqff/*`, and `tensor/missing` or `tensor/shape` for the first weight that is not as the architecture needs it.
 */
export async function openModel(
  directory: Directory,
  options: string | OpenOptions = {},
): Promise<OpenedModel> {
  const {
    architecture,
    gguf: file,
    uqff,
    tokenizer,
  }: OpenOptions = typeof options === "string" ? { architecture: options } : options;
  if (file !== undefined && uqff !== undefined) {
    const message = `the weights are either in the GGUF file ${file} or in the UQFF files ${uqff}, not in both`;
    throw new IsqError("option/conflict", message, { field: "fromUqff", value: uqff, limit: file });
  }
  const gguf = file === undefined ? null : await openGgufCheckpoint(directory, file);
  let opened = gguf?.checkpoint;
  try {
    const config = gguf?.config ?? parseConfig(await readText(directory, "config.json", "config/missing"));
    const program = compileModel(config, architecture);
    opened ??=
      uqff === undefined
        ? await openCheckpoint(directory)
        : await openUqffCheckpoint(directory, uqff, { weights: async () => program.weights });
    const checkpoint = opened.format === "safetensors" ? presentCheckpoint(opened, program) : opened;
    const sourceOf = (weight: WeightSpec) => findSource(checkpoint, weight);
    for (const weight of program.weights) sourceOf(weight);
    return { directory, tokenizerDirectory: tokenizer ?? null, config, program, checkpoint, gguf, sourceOf };
  } catch (error) {
    await opened?.close();
    throw error;
  }
}

/**
 * The tokenizer of a model: the tokenizer.json of the folder that was named for it or else of the model's, else what the GGUF
 * file says. Throws `tokenizer/missing`, `tokenizer/invalid`, `gguf/metadata`.
 */
export async function openTokenizerOf(
  {
    directory,
    tokenizerDirectory,
    config,
    gguf,
  }: Pick<OpenedModel, "directory" | "tokenizerDirectory" | "config" | "gguf">,
  source: TokenizerSource = {},
): Promise<Tokenizer> {
  const folder = tokenizerDirectory ?? directory;
  const named = source.directory ?? tokenizerDirectory;
  const inside = gguf !== null && !named && !(await folder.has("tokenizer.json"));
  const definition = inside ? tokenizerOfMetadata(gguf.files.metadata, gguf.files.name) : null;
  if (!definition) return openTokenizer(folder, config, source);
  const { tokenizerJson, settingsJson, defaults } = definition;
  const template = source.chatTemplate !== undefined && { chatTemplate: source.chatTemplate };
  const own = { beginToken: config.beginToken, ...defaults, ...template };
  return createTokenizer(tokenizerJson, settingsJson, own);
}

/** The weights that a model of this config.json has. Throws `config/*`, `architecture/unknown`. */
export async function readWeights(directory: Directory): Promise<readonly WeightSpec[]> {
  const config = parseConfig(await readText(directory, "config.json", "config/missing"));
  return compileModel(config).weights;
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
    throw shapeError(checkpoint.name, { ...found, name: weight.name }, weight.shape);
  }
  const { name, shape, algorithm } = found;
  const type = sourceType(checkpoint, found);
  const transposed = isStoredTransposed(checkpoint, weight) && isDense(type) && { transposed: true };
  return { name, type, shape, ...(algorithm && { algorithm }), ...transposed };
}

function isStoredTransposed({ format }: Checkpoint, { stored = [] }: WeightSpec): boolean {
  return format === "safetensors" && stored.some(({ transposed }) => transposed);
}

/** The type of a tensor, where it is one that weights may have: dense, or quantized. */
function sourceType(checkpoint: Checkpoint, { name, dtype }: CheckpointEntry): SourceTensor["type"] {
  if (isDense(dtype)) return dtype;
  if (Object.hasOwn(TYPES, dtype)) return dtype as IsqType;
  const { format } = checkpoint;
  const types = TYPE_NAMES.filter((type) => format === "uqff" || TYPES[type].ggml !== null);
  const limit = [...Object.keys(DENSE_BYTES), ...(format === "safetensors" ? [] : types)];
  const message = `${name} is ${dtype} in ${checkpoint.name}; weights may be ${limit.join(", ")}`;
  const details = { file: checkpoint.name, tensor: name, field: "dtype", value: dtype, limit };
  throw new IsqError(TYPE_TAGS[format], message, details);
}

const TYPE_TAGS = { safetensors: "safetensors/dtype", gguf: "gguf/type", uqff: "uqff/format" } as const;
