/** Gemma 1 to 3, whose norms have a 1 added to their weights in the file. */

import type { GgufValue } from "../../files/gguf-values.js";
import { RANGES } from "../config.js";
import { type Fields, fieldValue, invalidField, readInteger, readNumber, readObject } from "../fields.js";
import { readCap, readLayerTypes } from "../windows.js";
import { type Keys, metadataError, readNumberKey } from "./keys.js";
import { rule, type TensorRule } from "./names.js";
import {
  ACTIVATION_NAMES,
  attention,
  type ConfigValues,
  checkField,
  GATED,
  type GgufArchitecture,
  headsOf,
  LAYER,
  RMS,
  SIZES,
} from "./parts.js";

const COMMON = { head_dim: 256, tie_word_embeddings: true };

const BODY: readonly TensorRule[] = [
  rule("model.embed_tokens", "token_embd"),
  rule("model.norm", "output_norm", "plus-one"),
  rule("lm_head", "output"),
  ...attention("halves"),
  rule(`${LAYER}.input_layernorm`, "blk.{l}.attn_norm", "plus-one"),
  ...GATED,
];

const SANDWICH: readonly TensorRule[] = [
  rule(`${LAYER}.post_attention_layernorm`, "blk.{l}.post_attention_norm", "plus-one"),
  rule(`${LAYER}.pre_feedforward_layernorm`, "blk.{l}.ffn_norm", "plus-one"),
  rule(`${LAYER}.post_feedforward_layernorm`, "blk.{l}.post_ffw_norm", "plus-one"),
];

export const gemma: GgufArchitecture = {
  name: "gemma",
  modelTypes: { gemma: COMMON },
  hasOwnHead: false,
  tensors: [...BODY, rule(`${LAYER}.post_attention_layernorm`, "blk.{l}.ffn_norm", "plus-one")],
  keys: [...SIZES, RMS],
  check(fields) {
    const isStated = fieldValue(fields, "hidden_activation") !== undefined;
    // Older configs say gelu and mean its tanh form.
    if (isStated) checkField(fields, "hidden_activation", ...ACTIVATION_NAMES.geluTanh);
    else checkField(fields, "hidden_act", "gelu", ...ACTIVATION_NAMES.geluTanh);
  },
  identify: () => ({ className: "GemmaForCausalLM", modelType: "gemma" }),
};

/** llama.cpp divides scores by the root of the head's width, but in the largest model, which it knows by its layers. */
function scalarOf(fields: Fields, largest: number): number {
  const { heads, keyWidth } = headsOf(fields);
  const layers = readInteger(fields, "num_hidden_layers", RANGES.layers);
  return layers === largest ? readInteger(fields, "hidden_size", RANGES.width) / heads : keyWidth;
}

function checkLater(fields: Fields, largest: number): void {
  checkField(fields, "hidden_activation", ...ACTIVATION_NAMES.geluTanh);
  const scalar = readNumber(fields, "query_pre_attn_scalar", RANGES.scale, 256);
  const wanted = scalarOf(fields, largest);
  if (scalar === wanted) return;
  throw invalidField(fields, "query_pre_attn_scalar", scalar, `${wanted} to be written as GGUF`);
}

const typeAt = (layer: number, period: number) =>
  period > 0 && (layer + 1) % period === 0 ? "full_attention" : "sliding_attention";

/** Every how many layers one sees all positions; 0: none. `stated` is what a config without `layer_types` means. */
function periodOf(fields: Fields, stated: number, usual: number): number {
  const layers = readInteger(fields, "num_hidden_layers", RANGES.layers);
  const types = readLayerTypes(fields, layers, (layer) => typeAt(layer, stated));
  const suits = (period: number) => types.every((type, layer) => type === typeAt(layer, period));
  const found = [usual, types.indexOf("full_attention") + 1].find(suits);
  if (found !== undefined) return found;
  throw invalidField(fields, "layer_types", types.join(), "regular to be written as GGUF");
}

function* windowKeys(fields: Fields, usual: number, stated = usual): Generator<readonly [string, GgufValue]> {
  const period = periodOf(fields, stated, usual);
  const window = readInteger(fields, "sliding_window", RANGES.positions, 4096);
  yield ["attention.sliding_window", { type: "u32", value: window }];
  if (period !== usual) yield ["attention.sliding_window_pattern", { type: "u32", value: period }];
}

/** `layer_types`, by a period or a list with true for sliding layers. */
function windowFields(keys: Keys, config: ConfigValues, usual: number): ConfigValues {
  const name = `${keys.architecture}.attention.sliding_window_pattern`;
  const found = keys.metadata.get(name);
  const layers = Number(config["num_hidden_layers"]);
  const sliding_window = readNumberKey(keys, "attention.sliding_window") ?? 4096;
  if (found?.type !== "array") {
    const period = readNumberKey(keys, "attention.sliding_window_pattern") ?? usual;
    const inRange = layers <= RANGES.layers.maximum ? layers : 0; // which the architecture refuses
    return { sliding_window, layer_types: Array.from({ length: inRange }, (_, l) => typeAt(l, period)) };
  }
  const { values } = found;
  if (values.length !== layers)
    throw metadataError(keys.file, name, `has not ${layers} values`, values.length);
  const types = Array.from(values as Iterable<unknown>, (slides) =>
    Number(slides) ? "sliding_attention" : "full_attention",
  );
  return { sliding_window, layer_types: types };
}

const scalarFields = (config: ConfigValues, largest: number): ConfigValues => ({
  query_pre_attn_scalar:
    config["num_hidden_layers"] === largest
      ? Number(config["hidden_size"]) / Number(config["num_attention_heads"])
      : (config["head_dim"] ?? 256),
});

const GEMMA2 = { layers: 46, period: 2 };

export const gemma2: GgufArchitecture = {
  name: "gemma2",
  modelTypes: { gemma2: COMMON },
  hasOwnHead: false,
  tensors: [...BODY, ...SANDWICH],
  keys: [...SIZES, RMS],
  check: (fields) => checkLater(fields, GEMMA2.layers),
  *writeKeys(fields) {
    yield* windowKeys(fields, GEMMA2.period);
    for (const [key, name, usual] of [
      ["attn_logit_softcapping", "attn_logit_softcapping", 50],
      ["final_logit_softcapping", "final_logit_softcapping", 30],
    ] as const) {
      const value = readCap(fields, name, usual);
      if (value === undefined) throw invalidField(fields, name, null, "a number to be written as GGUF");
      yield [key, { type: "f32", value }];
    }
  },
  identify: () => ({ className: "Gemma2ForCausalLM", modelType: "gemma2" }),
  readFields: (keys, config) => ({
    ...windowFields(keys, config, GEMMA2.period),
    ...scalarFields(config, GEMMA2.layers),
    attn_logit_softcapping: readNumberKey(keys, "attn_logit_softcapping") ?? 50,
    final_logit_softcapping: readNumberKey(keys, "final_logit_softcapping") ?? 30,
  }),
};

const GEMMA3 = { layers: 62, period: 6 };

/** Rotary parameters by kind of layer (newer), or of the full layers beside a base of the sliding ones. */
function localBase(fields: Fields): number {
  const range = { minimum: 2, maximum: 1e12 };
  const newer = readObject(fields, "rope_parameters");
  if (!newer) return readNumber(fields, "rope_local_base_freq", range, 1e4);
  const own = readObject(newer, "sliding_attention");
  if (own) checkField(own, "rope_type", "default");
  return own ? readNumber(own, "rope_theta", range, 1e4) : 1e4;
}

export const gemma3: GgufArchitecture = {
  name: "gemma3",
  modelTypes: { gemma3_text: COMMON },
  tensors: [
    ...BODY,
    ...SANDWICH,
    rule(`${LAYER}.self_attn.q_norm`, "blk.{l}.attn_q_norm", "plus-one"),
    rule(`${LAYER}.self_attn.k_norm`, "blk.{l}.attn_k_norm", "plus-one"),
  ],
  keys: [...SIZES, RMS],
  check: (fields) => checkLater(fields, GEMMA3.layers),
  rope(fields) {
    const newer = readObject(fields, "rope_parameters");
    return { theta: 1e6, ...(newer && { scaling: readObject(newer, "full_attention") }) };
  },
  *writeKeys(fields) {
    const pattern = ["sliding_window_pattern", "_sliding_window_pattern"].find(
      (name) => fieldValue(fields, name) !== undefined,
    );
    const every = { minimum: 1, maximum: 1000 };
    const stated = pattern === undefined ? GEMMA3.period : readInteger(fields, pattern, every);
    yield* windowKeys(fields, GEMMA3.period, stated);
    yield ["rope.freq_base_swa", { type: "f32", value: localBase(fields) }];
    if (readCap(fields, "attn_logit_softcapping") !== undefined) {
      throw invalidField(fields, "attn_logit_softcapping", "a number", "null to be written as GGUF");
    }
    const value = readCap(fields, "final_logit_softcapping");
    if (value !== undefined) yield ["final_logit_softcapping", { type: "f32", value }];
  },
  identify: () => ({ className: "Gemma3ForCausalLM", modelType: "gemma3_text" }),
  readFields: (keys, config) => ({
    ...windowFields(keys, config, GEMMA3.period),
    ...scalarFields(config, GEMMA3.layers),
    attn_logit_softcapping: null,
    final_logit_softcapping: readNumberKey(keys, "final_logit_softcapping") ?? null,
    rope_parameters: {
      full_attention: config["rope_parameters"],
      sliding_attention: {
        rope_type: "default",
        rope_theta: readNumberKey(keys, "rope.freq_base_swa") ?? 1e4,
      },
    },
  }),
};
