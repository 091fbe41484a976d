/** Architectures that are alone in their ways. */

import type { GgufValue } from "../../files/gguf-values.js";
import { RANGES } from "../config.js";
import { fieldValue, readInteger } from "../fields.js";
import { count, readNumberKey } from "./keys.js";
import { rule } from "./names.js";
import {
  ACTIVATION_NAMES,
  attention,
  checkField,
  ENDS,
  GATED,
  type GgufArchitecture,
  HEAD_NORMS,
  LAYER,
  layerNorm,
  NORMS,
  RMS,
  SIZES,
  WINDOW,
} from "./parts.js";

export const starcoder2: GgufArchitecture = {
  name: "starcoder2",
  modelTypes: { starcoder2: { tie_word_embeddings: true } },
  tensors: [
    ...ENDS,
    ...attention("halves"),
    ...NORMS,
    rule(`${LAYER}.mlp.c_fc`, "blk.{l}.ffn_up"),
    rule(`${LAYER}.mlp.c_proj`, "blk.{l}.ffn_down"),
  ],
  keys: [...SIZES, layerNorm("norm_epsilon"), WINDOW],
  check: (fields) => checkField(fields, "hidden_act", ...ACTIVATION_NAMES.geluTanh),
  identify: () => ({ className: "Starcoder2ForCausalLM", modelType: "starcoder2" }),
  readFields: (_keys, _config, tensors) => ({ use_bias: tensors.has("blk.0.attn_q.bias") }),
};

export const olmo2: GgufArchitecture = {
  name: "olmo2",
  modelTypes: { olmo2: { rms_norm_eps: 1e-5 } },
  tensors: [
    ...ENDS,
    ...attention("halves"),
    ...HEAD_NORMS,
    rule(`${LAYER}.post_attention_layernorm`, "blk.{l}.post_attention_norm"),
    rule(`${LAYER}.post_feedforward_layernorm`, "blk.{l}.post_ffw_norm"),
    ...GATED,
  ],
  keys: [...SIZES, RMS],
  check: (fields) => checkField(fields, "hidden_act", ...ACTIVATION_NAMES.silu),
  identify: () => ({ className: "Olmo2ForCausalLM", modelType: "olmo2" }),
};

const BLOCK = "transformer.h.{l}";

export const gpt2: GgufArchitecture = {
  name: "gpt2",
  modelTypes: { gpt2: { tie_word_embeddings: true } },
  tensors: [
    rule("transformer.wte", "token_embd"),
    rule("transformer.wpe", "position_embd"),
    rule("transformer.ln_f", "output_norm"),
    rule("lm_head", "output"),
    rule(`${BLOCK}.ln_1`, "blk.{l}.attn_norm"),
    rule(`${BLOCK}.attn.c_attn`, "blk.{l}.attn_qkv"),
    rule(`${BLOCK}.attn.c_proj`, "blk.{l}.attn_output"),
    rule(`${BLOCK}.ln_2`, "blk.{l}.ffn_norm"),
    rule(`${BLOCK}.mlp.c_fc`, "blk.{l}.ffn_up"),
    rule(`${BLOCK}.mlp.c_proj`, "blk.{l}.ffn_down"),
  ],
  keys: [
    count("context_length", "n_positions"),
    count("embedding_length", "n_embd"),
    count("block_count", "n_layer"),
    count("attention.head_count", "n_head"),
    layerNorm("layer_norm_epsilon"),
  ],
  heads(fields) {
    const heads = readInteger(fields, "n_head", RANGES.heads);
    const width = readInteger(fields, "n_embd", RANGES.width) / heads;
    return { heads, kvHeads: heads, keyWidth: width, valueWidth: width, rotaryWidth: 0 };
  },
  rope: () => null,
  check(fields) {
    checkField(fields, "activation_function", ...ACTIVATION_NAMES.geluTanh);
    checkField(fields, "scale_attn_weights", true);
    checkField(fields, "scale_attn_by_inverse_layer_idx", false);
  },
  *writeKeys(fields): Generator<readonly [string, GgufValue]> {
    const usual = 4 * readInteger(fields, "n_embd", RANGES.width);
    const value =
      fieldValue(fields, "n_inner") === undefined ? usual : readInteger(fields, "n_inner", RANGES.width);
    yield ["feed_forward_length", { type: "u32", value }];
  },
  identify: () => ({ className: "GPT2LMHeadModel", modelType: "gpt2" }),
  readFields: (keys) => ({ n_inner: readNumberKey(keys, "feed_forward_length") }),
};
