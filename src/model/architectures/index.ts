/** The table of architectures and the ways to find one. */

import type { Program } from "../../backends/program.js";
import { IsqError } from "../../errors.js";
import type { ModelConfig } from "../config.js";
import type { Architecture } from "./architecture.js";
import { llama } from "./llama.js";
import { mistral } from "./mistral.js";

export type { Architecture } from "./architecture.js";

export const ARCHITECTURES: readonly Architecture[] = [llama, mistral];

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
