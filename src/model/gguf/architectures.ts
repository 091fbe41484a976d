/** The architectures that can be read from GGUF and written to it. A new one is a row in one of the files of this folder. */

import { IsqError } from "../../errors.js";
import { quote } from "../../files/json.js";
import type { ModelConfig } from "../config.js";
import type { Fields } from "../fields.js";
import { deepseek2 } from "./deepseek.js";
import { gemma, gemma2, gemma3 } from "./gemma.js";
import { granite, llama, smollm3 } from "./llama.js";
import { gpt2, olmo2, starcoder2 } from "./others.js";
import type { GgufArchitecture } from "./parts.js";
import { phi2, phi3, phimoe } from "./phi.js";
import { qwen2, qwen2moe, qwen3, qwen3moe } from "./qwen.js";

export { type GgufArchitecture, type HeadShape, headsOf } from "./parts.js";

export const GGUF_ARCHITECTURES: readonly GgufArchitecture[] = [
  ...[llama, phi2, phi3, phimoe, qwen2, qwen3, qwen2moe, qwen3moe, gemma, gemma2, gemma3],
  ...[starcoder2, smollm3, olmo2, granite, gpt2, deepseek2],
];

/** The architecture of a file. Throws `architecture/unknown`. */
export function ggufArchitecture(name: string, file: string): GgufArchitecture {
  return GGUF_ARCHITECTURES.find((row) => row.name === name) ?? refuse(name, "general.architecture", file);
}

/** The architecture that a config.json is written as. Throws `architecture/unknown`. */
export function ggufArchitectureOf({ modelType, fields }: ModelConfig): GgufArchitecture {
  const found = GGUF_ARCHITECTURES.find(
    ({ modelTypes }) => modelType !== null && Object.hasOwn(modelTypes, modelType),
  );
  return found ?? refuse(String(modelType), "model_type", fields.file);
}

/** The fields of a config.json, and what its architecture has where they are absent or null. */
export function statedFields({ modelTypes }: GgufArchitecture, { fields, modelType }: ModelConfig): Fields {
  const values: Record<string, unknown> = { ...fields.values };
  for (const [name, value] of Object.entries(modelTypes[modelType ?? ""] ?? {})) values[name] ??= value;
  return { ...fields, values };
}

function refuse(name: string, field: string, file: string): never {
  const known = GGUF_ARCHITECTURES.map((row) => row.name);
  const message = `${file}: no GGUF architecture for ${quote(name)}; there are ${known.join(", ")}`;
  throw new IsqError("architecture/unknown", message, { file, field, value: name, limit: known });
}
