/** config.json to the metadata of a GGUF file, and back. */

import type { GgufEntry, GgufFiles } from "../../files/gguf-split.js";
import type { GgufMetadata, GgufValue } from "../../files/gguf-values.js";
import type { ModelConfig } from "../config.js";
import {
  type GgufArchitecture,
  ggufArchitecture,
  ggufArchitectureOf,
  headsOf,
  statedFields,
} from "./architectures.js";
import { fieldOfKey, type Keys, metadataError, readNumberKey, readTextKey, valueOfField } from "./keys.js";
import { type FactorTensor, ropeKeys, ropeParameters } from "./rope.js";

export interface ModelMetadata {
  readonly architecture: GgufArchitecture;
  /** `general.architecture` and the hyper-parameters. */
  readonly metadata: GgufMetadata;
  /** Rotary factors that the file holds as tensors. */
  readonly factors: readonly FactorTensor[];
}

/** The hyper-parameters of a config.json as metadata. Throws `architecture/unknown`, `config/*`. */
export function metadataOfConfig(config: ModelConfig, vocabulary: number): ModelMetadata {
  const architecture = ggufArchitectureOf(config);
  const fields = statedFields(architecture, config);
  architecture.check?.(fields);
  const { kvHeads, keyWidth, valueWidth, rotaryWidth } = (architecture.heads ?? headsOf)(fields);
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: architecture.name }],
    ["general.type", { type: "string", value: "model" }],
  ]);
  const add = (key: string, value: GgufValue | null) => {
    if (value !== null) metadata.set(`${architecture.name}.${key}`, value);
  };
  add("vocab_size", { type: "u32", value: vocabulary });
  for (const key of architecture.keys) add(key.key, valueOfField(fields, key));
  add("attention.head_count_kv", { type: "u32", value: kvHeads });
  const defaults = architecture.rope ? architecture.rope(fields) : {};
  let factors: readonly FactorTensor[] = [];
  if (defaults) {
    add("attention.key_length", { type: "u32", value: keyWidth });
    add("attention.value_length", { type: "u32", value: valueWidth });
    add("rope.dimension_count", { type: "u32", value: rotaryWidth });
    const rope = ropeKeys(fields, rotaryWidth, defaults);
    for (const [key, value] of rope.keys) add(key, value);
    factors = rope.tensors;
  }
  for (const [key, value] of architecture.writeKeys?.(fields) ?? []) add(key, value);
  return { architecture, metadata, factors };
}

export interface ConfigOfMetadata {
  readonly architecture: GgufArchitecture;
  /** The content of a config.json. */
  readonly config: Readonly<Record<string, unknown>>;
}

/**
 * The config.json that a file stands for. `readTensor` gives a tensor as binary32, or null where there is none. Throws
 * `architecture/unknown`, and `gguf/metadata` for keys that are missing or of the wrong kind.
 */
export async function configOfMetadata(
  files: GgufFiles,
  readTensor: (name: string) => Promise<Float32Array | null>,
): Promise<ConfigOfMetadata> {
  const { name: file, metadata, tensors } = files;
  const name = readTextKey(file, metadata, "general.architecture");
  if (name === undefined) throw metadataError(file, "general.architecture", "is missing");
  const architecture = ggufArchitecture(name, file);
  const keys: Keys = { file, architecture: name, metadata };
  const { className, modelType } = architecture.identify(keys);
  const config: Record<string, unknown> = { architectures: [className], model_type: modelType };
  for (const key of architecture.keys) {
    const value = fieldOfKey(keys, key);
    if (value !== undefined) config[key.field] = value;
  }
  const kvHeads = readNumberKey(keys, "attention.head_count_kv");
  if (kvHeads !== undefined) config["num_key_value_heads"] = kvHeads;
  const headWidth = readNumberKey(keys, "attention.key_length");
  if (headWidth !== undefined) config["head_dim"] = headWidth;
  config["vocab_size"] = vocabularyOf(keys, tensors);
  config["tie_word_embeddings"] = !tensors.has("output.weight");
  config["attention_bias"] = tensors.has("blk.0.attn_q.bias");
  config["mlp_bias"] = tensors.has("blk.0.ffn_down.bias");
  const rotaryWidth = readNumberKey(keys, "rope.dimension_count");
  if (rotaryWidth !== undefined && headWidth !== undefined) {
    if (rotaryWidth > headWidth) {
      const key = `${name}.rope.dimension_count`;
      throw metadataError(file, key, `is above the ${headWidth} of a head`, rotaryWidth);
    }
    if (rotaryWidth < headWidth) config["partial_rotary_factor"] = rotaryWidth / headWidth;
  }
  if (architecture.rope?.({ file, path: "", values: config }) !== null) {
    config["rope_parameters"] = await ropeParameters(keys, readTensor);
  }
  Object.assign(config, tokenIds(keys), architecture.readFields?.(keys, config, tensors));
  return { architecture, config };
}

/** Rows of the embedding, which are what counts; else what the metadata says. */
function vocabularyOf(keys: Keys, tensors: ReadonlyMap<string, GgufEntry>): number {
  const rows = tensors.get("token_embd.weight")?.shape[0] ?? readNumberKey(keys, "vocab_size");
  if (rows !== undefined) return rows;
  throw metadataError(keys.file, `${keys.architecture}.vocab_size`, "is missing");
}

function tokenIds(keys: Keys): Record<string, unknown> {
  const ids: Record<string, unknown> = {};
  const tokenizer: Keys = { ...keys, architecture: "tokenizer.ggml" };
  const begin = readNumberKey(tokenizer, "bos_token_id");
  const end = readNumberKey(tokenizer, "eos_token_id");
  const turn = readNumberKey(tokenizer, "eot_token_id");
  if (begin !== undefined) ids["bos_token_id"] = begin;
  const ends = [...new Set([end, turn].filter((id) => id !== undefined))];
  if (ends.length > 0) ids["eos_token_id"] = ends.length === 1 ? ends[0] : ends;
  return ids;
}
