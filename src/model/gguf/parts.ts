/** What rows of GGUF architectures are put together from: tensors and keys that several have, and checks of configs. */

import type { GgufEntry } from "../../files/gguf-split.js";
import type { GgufValue } from "../../files/gguf-values.js";
import { type Fields, fieldValue, invalidField, readInteger } from "../fields.js";
import type { RopeDefaults } from "../rope.js";
import { count, float, type KeyRule, type Keys } from "./keys.js";
import { rule, type TensorRule } from "./names.js";

/** Fields of a config.json. */
export type ConfigValues = Readonly<Record<string, unknown>>;

export interface GgufArchitecture {
  /** `general.architecture`. */
  readonly name: string;
  /** `model_type` values of config.json that are written as this, and what an absent field means there. */
  readonly modelTypes: Readonly<Record<string, ConfigValues>>;
  readonly tensors: readonly TensorRule[];
  readonly keys: readonly KeyRule[];
  /** Whether a file may have a head beside the embedding; true when absent. */
  readonly hasOwnHead?: boolean;
  /** {@link headsOf} when absent. */
  heads?(fields: Fields): HeadShape;
  /** Where the rotary parameters are; null: positions are learned. Those of the config when absent. */
  rope?(fields: Fields): RopeDefaults | null;
  /** Class and model type of the config.json that a file stands for. */
  identify(keys: Keys): { readonly className: string; readonly modelType: string };
  /** Throws `config/*` for what a file cannot say. */
  check?(fields: Fields): void;
  /** Further keys of a file, without the architecture in front. Throws `config/*`. */
  writeKeys?(fields: Fields): Iterable<readonly [string, GgufValue]>;
  /** Further fields of config.json; `config` has those before. Throws `gguf/metadata`. */
  readFields?(keys: Keys, config: ConfigValues, tensors: ReadonlyMap<string, GgufEntry>): ConfigValues;
}

/** Widths are elements of a head. */
export interface HeadShape {
  readonly heads: number;
  readonly kvHeads: number;
  readonly keyWidth: number;
  readonly valueWidth: number;
  readonly rotaryWidth: number;
}

export const LAYER = "model.layers.{l}";

/** Embedding, head and the norm in front of it. */
export const ENDS: readonly TensorRule[] = [
  rule("model.embed_tokens", "token_embd"),
  rule("model.norm", "output_norm"),
  rule("lm_head", "output"),
];

/** Rotary pairs are neighbours (`interleaved`) or halves apart in the file; they are always the latter in checkpoints. */
export const attention = (rotary: "interleaved" | "halves", output = "o_proj"): TensorRule[] => [
  rule(`${LAYER}.self_attn.q_proj`, "blk.{l}.attn_q", rotary === "interleaved" ? "rope-queries" : "none"),
  rule(`${LAYER}.self_attn.k_proj`, "blk.{l}.attn_k", rotary === "interleaved" ? "rope-keys" : "none"),
  rule(`${LAYER}.self_attn.v_proj`, "blk.{l}.attn_v"),
  rule(`${LAYER}.self_attn.${output}`, "blk.{l}.attn_output"),
];

/** Norms of each head's, or of all, queries and keys. */
export const HEAD_NORMS: readonly TensorRule[] = [
  rule(`${LAYER}.self_attn.q_norm`, "blk.{l}.attn_q_norm"),
  rule(`${LAYER}.self_attn.k_norm`, "blk.{l}.attn_k_norm"),
];

export const NORMS: readonly TensorRule[] = [
  rule(`${LAYER}.input_layernorm`, "blk.{l}.attn_norm"),
  rule(`${LAYER}.post_attention_layernorm`, "blk.{l}.ffn_norm"),
];

export const GATED: readonly TensorRule[] = [
  rule(`${LAYER}.mlp.gate_proj`, "blk.{l}.ffn_gate"),
  rule(`${LAYER}.mlp.up_proj`, "blk.{l}.ffn_up"),
  rule(`${LAYER}.mlp.down_proj`, "blk.{l}.ffn_down"),
];

/** Experts of Mixtral, whose gate, up and down projections are w1, w3 and w2. */
export const MIXTRAL_EXPERTS: readonly TensorRule[] = [
  rule(`${LAYER}.block_sparse_moe.gate`, "blk.{l}.ffn_gate_inp"),
  rule(`${LAYER}.block_sparse_moe.experts.{e}.w1`, "blk.{l}.ffn_gate_exps"),
  rule(`${LAYER}.block_sparse_moe.experts.{e}.w3`, "blk.{l}.ffn_up_exps"),
  rule(`${LAYER}.block_sparse_moe.experts.{e}.w2`, "blk.{l}.ffn_down_exps"),
];

/** Experts beside the dense part's names. */
export const EXPERTS: readonly TensorRule[] = [
  rule(`${LAYER}.mlp.gate`, "blk.{l}.ffn_gate_inp"),
  rule(`${LAYER}.mlp.experts.{e}.gate_proj`, "blk.{l}.ffn_gate_exps"),
  rule(`${LAYER}.mlp.experts.{e}.up_proj`, "blk.{l}.ffn_up_exps"),
  rule(`${LAYER}.mlp.experts.{e}.down_proj`, "blk.{l}.ffn_down_exps"),
];

/** The expert that sees every token, of the given name. */
export const sharedExpert = (name: string): TensorRule[] => [
  rule(`${LAYER}.mlp.${name}.gate_proj`, "blk.{l}.ffn_gate_shexp"),
  rule(`${LAYER}.mlp.${name}.up_proj`, "blk.{l}.ffn_up_shexp"),
  rule(`${LAYER}.mlp.${name}.down_proj`, "blk.{l}.ffn_down_shexp"),
];

/** Keys of every decoder. */
export const SIZES: readonly KeyRule[] = [
  count("context_length", "max_position_embeddings"),
  count("embedding_length", "hidden_size"),
  count("block_count", "num_hidden_layers"),
  count("feed_forward_length", "intermediate_size"),
  count("attention.head_count", "num_attention_heads"),
];

export const RMS = float("attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6);
export const EXPERTS_USED = count("expert_used_count", "num_experts_per_tok", null);
export const WINDOW = count("attention.sliding_window", "sliding_window", null);
export const EXPERT_WIDTH = count("expert_feed_forward_length", "moe_intermediate_size");

export const layerNorm = (field: string): KeyRule => float("attention.layer_norm_epsilon", field, 1e-5);

/** Names in config.json of what llama.cpp computes where a file cannot name the activation. */
export const ACTIVATION_NAMES = {
  silu: ["silu", "swish"],
  geluTanh: ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"],
} as const;

/** Throws `config/invalid` unless a field is absent or has one of the values that files of the architecture stand for. */
export function checkField(fields: Fields, name: string, ...values: readonly unknown[]): void {
  const value = fieldValue(fields, name);
  if (value === undefined || values.includes(value)) return;
  throw invalidField(fields, name, value, `${values.join(" or ")} to be written as GGUF`);
}

/** Throws `config/invalid` for windows, of architectures whose files have none. */
export function checkNoWindows(fields: Fields): void {
  if (fieldValue(fields, "sliding_window") !== undefined) checkField(fields, "use_sliding_window", false);
}

const HEADS = { minimum: 1, maximum: 2 ** 20 };
const WIDTH = { minimum: 1, maximum: 2 ** 30 };

/** What the row permutations and the rotary tables need of a config.json. Throws `config/*`. */
export function headsOf(fields: Fields): HeadShape {
  const heads = readInteger(fields, "num_attention_heads", HEADS);
  const kvHeads = readInteger(fields, "num_key_value_heads", HEADS, heads);
  const hidden = readInteger(fields, "hidden_size", WIDTH);
  const width =
    fieldValue(fields, "head_dim") === undefined ? hidden / heads : readInteger(fields, "head_dim", WIDTH);
  return { heads, kvHeads, keyWidth: width, valueWidth: width, rotaryWidth: width };
}
