/** Rotary scalings: config.json's object on one side, keys and tensors of factors on the other. */

import type { GgufValue } from "../../files/gguf-values.js";
import { log64 } from "../../math.js";
import { type Fields, invalidField } from "../fields.js";
import { parseRope, type RopeDefaults, type RopeScaling, ropeTable, ropeUse, yarnScale } from "../rope.js";
import { type Keys, metadataError, needNumberKey, readNumberKey, readTextKey, shortenFloat } from "./keys.js";

/** A tensor of factors that no checkpoint has. */
export interface FactorTensor {
  readonly name: string;
  readonly values: Float32Array;
}

export interface RopeKeys {
  /** Without the architecture in front. */
  readonly keys: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly FactorTensor[];
}

export const ROPE_FACTORS = "rope_freqs.weight";
export const LONG_FACTORS = "rope_factors_long.weight";
export const SHORT_FACTORS = "rope_factors_short.weight";

/** What a file says of the rotary embedding over `rotaryWidth` elements per head. Throws `config/invalid`. */
export function ropeKeys(config: Fields, rotaryWidth: number, defaults: RopeDefaults = {}): RopeKeys {
  const scaling = parseRope(config, defaults);
  const keys = new Map<string, GgufValue>();
  const add = (key: string, value: number) => keys.set(`rope.${key}`, { type: "f32", value });
  const name = (value: string) => keys.set("rope.scaling.type", { type: "string", value });
  const contextKey = (value: number) =>
    keys.set("rope.scaling.original_context_length", { type: "u32", value });
  add("freq_base", scaling.theta);
  switch (scaling.kind) {
    case "default":
      return { keys, tensors: [] };
    case "linear":
      name("linear");
      add("scaling.factor", scaling.factor);
      return { keys, tensors: [] };
    case "llama3": {
      const plain = ropeTable({ kind: "default", theta: scaling.theta }, rotaryWidth).frequencies;
      const scaled = ropeTable(scaling, rotaryWidth).frequencies;
      const values = Float32Array.from(plain, (frequency, i) => frequency / scaled[i]);
      return { keys, tensors: [{ name: ROPE_FACTORS, values }] };
    }
    case "factors": {
      ropeTable(scaling, rotaryWidth); // which refuses another number of factors
      return { keys, tensors: [{ name: ROPE_FACTORS, values: Float32Array.from(scaling.factors) }] };
    }
    case "yarn":
      name("yarn");
      contextKey(scaling.originalContext);
      for (const [key, value] of yarnKeys(config, scaling)) add(`scaling.${key}`, value);
      return { keys, tensors: [] };
    case "longrope": {
      name("longrope");
      contextKey(scaling.originalContext);
      const { short, long } = scaling;
      ropeUse(scaling, rotaryWidth);
      if (short.magnitude !== long.magnitude) {
        const limit = `${long.magnitude}, as for long contexts, to be written as GGUF`;
        throw invalidField(config, "short_mscale", short.magnitude, limit);
      }
      add("scaling.attn_factor", short.magnitude);
      const tensors = [
        { name: LONG_FACTORS, values: Float32Array.from(long.factors) },
        { name: SHORT_FACTORS, values: Float32Array.from(short.factors) },
      ];
      return { keys, tensors };
    }
  }
}

type Yarn = Extract<RopeScaling, { kind: "yarn" }>;

/**
 * llama.cpp's ramp of whole pairs, its magnitude (YaRN's usual one times `attn_factor`), and for latent attention the scale of the scores, of which it knows
 * 0.1 · mscale_all_dim.
 */
function* yarnKeys(config: Fields, scaling: Yarn): Generator<readonly [string, number]> {
  const { factor, magnitude, scoreScale, fastTurns, slowTurns, truncate } = scaling;
  if (!truncate) throw invalidField(config, "rope_scaling", "truncate: false", "true to be written as GGUF");
  yield ["factor", factor];
  if (fastTurns !== 32) yield ["yarn_beta_fast", fastTurns];
  if (slowTurns !== 1) yield ["yarn_beta_slow", slowTurns];
  if (scoreScale === 1) {
    if (Math.abs(magnitude - yarnScale(factor)) > 1e-7) yield ["attn_factor", magnitude / yarnScale(factor)];
    return;
  }
  // With it llama.cpp leaves cosines and sines as they are.
  yield ["yarn_log_multiplier", (scoreScale - 1) / log64(factor)];
  if (magnitude !== 1) {
    throw invalidField(config, "mscale", magnitude, "the same as mscale_all_dim to be written as GGUF");
  }
}

/** `rope_parameters` of config.json. `readFactors` gives a tensor of the file as binary32, or null. Throws `gguf/metadata`. */
export async function ropeParameters(
  keys: Keys,
  readTensor: (name: string) => Promise<Float32Array | null>,
): Promise<Record<string, unknown>> {
  const { file, architecture, metadata } = keys;
  const rope_theta = readNumberKey(keys, "rope.freq_base") ?? 10000;
  const typeKey = `${architecture}.rope.scaling.type`;
  const kind = readTextKey(file, metadata, typeKey) ?? "none";
  if (kind === "linear") {
    return { rope_type: "linear", rope_theta, factor: needNumberKey(keys, "rope.scaling.factor") };
  }
  if (kind === "yarn") return { rope_type: kind, rope_theta, ...yarnParameters(keys) };
  const [long, short] = [await readTensor(LONG_FACTORS), await readTensor(SHORT_FACTORS)];
  if (long !== null && short !== null) {
    const original = readNumberKey(keys, "rope.scaling.original_context_length");
    return {
      rope_type: "longrope",
      rope_theta,
      long_factor: Array.from(long, shortenFloat),
      short_factor: Array.from(short, shortenFloat),
      ...(original !== undefined && { original_max_position_embeddings: original }),
      attention_factor: readNumberKey(keys, "rope.scaling.attn_factor") ?? 1,
    };
  }
  const factors = await readTensor(ROPE_FACTORS);
  if (factors !== null) return { rope_type: "factors", rope_theta, factors: [...factors] };
  if (kind === "none") return { rope_type: "default", rope_theta };
  throw metadataError(file, typeKey, `is ${kind}, which is not supported`, kind);
}

function yarnParameters(keys: Keys): Record<string, unknown> {
  const factor = needNumberKey(keys, "rope.scaling.factor");
  const original = readNumberKey(keys, "rope.scaling.original_context_length");
  const multiplier = readNumberKey(keys, "rope.scaling.yarn_log_multiplier");
  const all = multiplier === undefined ? undefined : shortenFloat(Math.fround(multiplier * 10));
  const own = readNumberKey(keys, "rope.scaling.attn_factor") ?? 1;
  return {
    factor,
    ...(original !== undefined && { original_max_position_embeddings: original }),
    beta_fast: readNumberKey(keys, "rope.scaling.yarn_beta_fast") ?? 32,
    beta_slow: readNumberKey(keys, "rope.scaling.yarn_beta_slow") ?? 1,
    ...(all ? { mscale: all, mscale_all_dim: all } : { attention_factor: own * yarnScale(factor) }),
  };
}
