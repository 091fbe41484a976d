/** The table of architectures and the ways to find one. */

import type { Program } from "../../backends/program.js";
import { IsqError } from "../../errors.js";
import type { ModelConfig } from "../config.js";
import type { Architecture } from "./architecture.js";
import { deepseekv2 } from "./deepseekv2.js";
import { deepseekv3 } from "./deepseekv3.js";
import { gemma } from "./gemma.js";
import { gemma2 } from "./gemma2.js";
import { gemma3 } from "./gemma3.js";
import { gpt2 } from "./gpt2.js";
import { granite } from "./granite.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";
import { mixtral } from "./mixtral.js";
import { olmo2 } from "./olmo2.js";
import { phi2 } from "./phi2.js";
import { phi35moe } from "./phi3.5moe.js";
import { phi3 } from "./phi3.js";
import { qwen2 } from "./qwen2.js";
import { qwen2moe } from "./qwen2moe.js";
import { qwen3 } from "./qwen3.js";
import { qwen3moe } from "./qwen3moe.js";
import { smollm3 } from "./smollm3.js";
import { starcoder2 } from "./starcoder2.js";

export type { Architecture } from "./architecture.js";

export const ARCHITECTURES: readonly Architecture[] = [
  llama,
  mistral,
  mixtral,
  phi2,
  phi3,
  phi35moe,
  qwen2,
  qwen3,
  qwen2moe,
  qwen3moe,
  gemma,
  gemma2,
  gemma3,
  starcoder2,
  smollm3,
  olmo2,
  granite,
  gpt2,
  deepseekv2,
  deepseekv3,
];

/** The names the `-a` option takes. */
export const ARCHITECTURE_NAMES: readonly string[] = ARCHITECTURES.map((architecture) => architecture.name);

/**
 * The architecture called `name` (any case), or without a name the one config.json says: its class first, then its
 * model type. Throws `architecture/unknown` listing the known names.
 */
export function findArchitecture(config: ModelConfig, name?: string): Architecture {
  const { className, modelType, fields } = config;
  const found =
    name !== undefined
      ? ARCHITECTURES.find((architecture) => architecture.name === name.toLowerCase())
      : (ARCHITECTURES.find(({ classNames }) => className !== null && classNames.includes(className)) ??
        ARCHITECTURES.find(({ modelTypes }) => modelType !== null && modelTypes.includes(modelType)));
  if (found) return found;
  const field = name !== undefined ? "architecture" : className !== null ? "architectures" : "model_type";
  const value = name ?? className ?? modelType;
  throw new IsqError(
    "architecture/unknown",
    `unknown architecture ${JSON.stringify(value)}; the architectures are ${ARCHITECTURE_NAMES.join(", ")}`,
    { ...(name === undefined && { file: fields.file }), field, value, limit: ARCHITECTURE_NAMES },
  );
}

/** Compiles a model. Throws `architecture/unknown`, `config/missing`, `config/invalid` or `shape/invalid`. */
export function compileModel(config: ModelConfig, architecture?: string): Program {
  return findArchitecture(config, architecture).compile(config.fields);
}
