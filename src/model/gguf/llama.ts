/** Llama and what is computed like it, with rotary pairs that are neighbours in the file. */

import { type Fields, fieldValue, invalidField } from "../fields.js";
import { count, float, type Keys, readNumberKey } from "./keys.js";
import {
  ACTIVATION_NAMES,
  attention,
  checkField,
  checkNoWindows,
  ENDS,
  EXPERTS_USED,
  GATED,
  type GgufArchitecture,
  MIXTRAL_EXPERTS,
  NORMS,
  RMS,
  SIZES,
  WINDOW,
} from "./parts.js";

const checkActivation = (fields: Fields) => checkField(fields, "hidden_act", ...ACTIVATION_NAMES.silu);

export const llama: GgufArchitecture = {
  name: "llama",
  modelTypes: { llama: {}, mistral: {}, mixtral: { rms_norm_eps: 1e-5, rope_theta: 1e6 } },
  tensors: [...ENDS, ...attention("interleaved"), ...NORMS, ...GATED, ...MIXTRAL_EXPERTS],
  keys: [...SIZES, RMS, count("expert_count", "num_local_experts", null), EXPERTS_USED, WINDOW],
  check: checkActivation,
  identify(keys: Keys) {
    if (readNumberKey(keys, "expert_count")) return { className: "MixtralForCausalLM", modelType: "mixtral" };
    if (readNumberKey(keys, "attention.sliding_window")) {
      return { className: "MistralForCausalLM", modelType: "mistral" };
    }
    return { className: "LlamaForCausalLM", modelType: "llama" };
  },
};

export const granite: GgufArchitecture = {
  name: "granite",
  modelTypes: { granite: {} },
  tensors: [...ENDS, ...attention("interleaved"), ...NORMS, ...GATED],
  keys: [
    ...SIZES,
    RMS,
    float("attention.scale", "attention_multiplier", 1),
    float("embedding_scale", "embedding_multiplier", 1),
    float("residual_scale", "residual_multiplier", 1),
    float("logit_scale", "logits_scaling", 1),
  ],
  check: checkActivation,
  identify: () => ({ className: "GraniteForCausalLM", modelType: "granite" }),
};

/** llama.cpp leaves out the positions of every fourth layer, and a file cannot say otherwise. */
const EVERY = 4;

export const smollm3: GgufArchitecture = {
  name: "smollm3",
  modelTypes: { smollm3: { tie_word_embeddings: true, rope_theta: 2e6 } },
  tensors: [...ENDS, ...attention("interleaved"), ...NORMS, ...GATED],
  keys: [...SIZES, RMS],
  check(fields) {
    checkActivation(fields);
    checkNoWindows(fields);
    const layers = fieldValue(fields, "no_rope_layers");
    if (layers === undefined) return checkField(fields, "no_rope_layer_interval", EVERY);
    const isUsual = (rotates: unknown, layer: number) => rotates === Number((layer + 1) % EVERY !== 0);
    if (Array.isArray(layers) && layers.every(isUsual)) return;
    throw invalidField(
      fields,
      "no_rope_layers",
      layers,
      `0 for every ${EVERY}th layer to be written as GGUF`,
    );
  },
  identify: () => ({ className: "SmolLM3ForCausalLM", modelType: "smollm3" }),
  readFields: () => ({ no_rope_layer_interval: EVERY, use_sliding_window: false }),
};
