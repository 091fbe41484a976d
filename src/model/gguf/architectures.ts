/** The architectures that can be read from GGUF and written to it: names of tensors, keys of hyper-parameters. */

import { IsqError } from "../../errors.js";
import type { GgufValue } from "../../files/gguf-values.js";
import { quote } from "../../files/json.js";
import type { ModelConfig } from "../config.js";
import { type Fields, fieldValue, readInteger } from "../fields.js";
import { count, float, type KeyRule, type Keys, readNumberKey } from "./keys.js";
import { rule, type TensorRule } from "./names.js";

export interface GgufArchitecture {
  /** `general.architecture`. */
  readonly name: string;
  /** `model_type` values of config.json that are written as this. */
  readonly modelTypes: readonly string[];
  readonly tensors: readonly TensorRule[];
  readonly keys: readonly KeyRule[];
  /** Class and model type of the config.json that a file stands for. */
  identify(keys: Keys): { readonly className: string; readonly modelType: string };
  /** Further keys of a file, without the architecture in front. Throws `config/*` for what a file cannot say. */
  writeKeys?(fields: Fields): Iterable<readonly [string, GgufValue]>;
  /** Further fields of config.json. */
  readFields?(keys: Keys): Record<string, unknown>;
}

const LAYER = "model.layers.{l}";

/** Embedding, head and the norm in front of it. */
const ENDS: readonly TensorRule[] = [
  rule("model.embed_tokens", "token_embd"),
  rule("model.norm", "output_norm"),
  rule("lm_head", "output"),
];

const attention = (rotary: "interleaved" | "halves"): TensorRule[] => [
  rule(`${LAYER}.self_attn.q_proj`, "blk.{l}.attn_q", rotary === "interleaved" ? "rope-queries" : "none"),
  rule(`${LAYER}.self_attn.k_proj`, "blk.{l}.attn_k", rotary === "interleaved" ? "rope-keys" : "none"),
  rule(`${LAYER}.self_attn.v_proj`, "blk.{l}.attn_v"),
  rule(`${LAYER}.self_attn.o_proj`, "blk.{l}.attn_output"),
];

const NORMS: readonly TensorRule[] = [
  rule(`${LAYER}.input_layernorm`, "blk.{l}.attn_norm"),
  rule(`${LAYER}.post_attention_layernorm`, "blk.{l}.ffn_norm"),
];

const GATED: readonly TensorRule[] = [
  rule(`${LAYER}.mlp.gate_proj`, "blk.{l}.ffn_gate"),
  rule(`${LAYER}.mlp.up_proj`, "blk.{l}.ffn_up"),
  rule(`${LAYER}.mlp.down_proj`, "blk.{l}.ffn_down"),
];

/** Experts of Mixtral, whose gate, up and down projections are w1, w3 and w2. */
const MIXTRAL_EXPERTS: readonly TensorRule[] = [
  rule(`${LAYER}.block_sparse_moe.gate`, "blk.{l}.ffn_gate_inp"),
  rule(`${LAYER}.block_sparse_moe.experts.{e}.w1`, "blk.{l}.ffn_gate_exps"),
  rule(`${LAYER}.block_sparse_moe.experts.{e}.w3`, "blk.{l}.ffn_up_exps"),
  rule(`${LAYER}.block_sparse_moe.experts.{e}.w2`, "blk.{l}.ffn_down_exps"),
];

/** Keys of every decoder. */
const SIZES: readonly KeyRule[] = [
  count("context_length", "max_position_embeddings"),
  count("embedding_length", "hidden_size"),
  count("block_count", "num_hidden_layers"),
  count("feed_forward_length", "intermediate_size"),
  count("attention.head_count", "num_attention_heads"),
];
const RMS = float("attention.layer_norm_rms_epsilon", "rms_norm_eps", 1e-6);
const EXPERTS_USED = count("expert_used_count", "num_experts_per_tok", null);

const llama: GgufArchitecture = {
  name: "llama",
  modelTypes: ["llama", "mistral", "mixtral"],
  tensors: [...ENDS, ...attention("interleaved"), ...NORMS, ...GATED, ...MIXTRAL_EXPERTS],
  keys: [
    ...SIZES,
    RMS,
    count("expert_count", "num_local_experts", null),
    EXPERTS_USED,
    count("attention.sliding_window", "sliding_window", null),
  ],
  identify(keys) {
    if (readNumberKey(keys, "expert_count")) return { className: "MixtralForCausalLM", modelType: "mixtral" };
    if (readNumberKey(keys, "attention.sliding_window")) {
      return { className: "MistralForCausalLM", modelType: "mistral" };
    }
    return { className: "LlamaForCausalLM", modelType: "llama" };
  },
};

export const GGUF_ARCHITECTURES: readonly GgufArchitecture[] = [llama];

/** The architecture of a file. Throws `architecture/unknown`. */
export function ggufArchitecture(name: string, file: string): GgufArchitecture {
  return GGUF_ARCHITECTURES.find((row) => row.name === name) ?? refuse(name, "general.architecture", file);
}

/** The architecture that a config.json is written as. Throws `architecture/unknown`. */
export function ggufArchitectureOf({ modelType, fields }: ModelConfig): GgufArchitecture {
  const found = GGUF_ARCHITECTURES.find(
    ({ modelTypes }) => modelType !== null && modelTypes.includes(modelType),
  );
  return found ?? refuse(String(modelType), "model_type", fields.file);
}

function refuse(name: string, field: string, file: string): never {
  const known = GGUF_ARCHITECTURES.map((row) => row.name);
  const message = `${file}: no GGUF architecture for ${quote(name)}; there are ${known.join(", ")}`;
  throw new IsqError("architecture/unknown", message, { file, field, value: name, limit: known });
}

const HEADS = { minimum: 1, maximum: 2 ** 20 };
const WIDTH = { minimum: 1, maximum: 2 ** 30 };

/** What the row permutations and the rotary tables need of a config.json. Throws `config/*`. */
export function headsOf(fields: Fields): { heads: number; kvHeads: number; headWidth: number } {
  const heads = readInteger(fields, "num_attention_heads", HEADS);
  const kvHeads = readInteger(fields, "num_key_value_heads", HEADS, heads);
  const hidden = readInteger(fields, "hidden_size", WIDTH);
  const headWidth =
    fieldValue(fields, "head_dim") === undefined ? hidden / heads : readInteger(fields, "head_dim", WIDTH);
  return { heads, kvHeads, headWidth };
}
