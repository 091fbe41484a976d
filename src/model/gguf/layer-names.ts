/**
 * GGUF's names of the matrices of any decoder, as llama.cpp gives them for importance: an importance matrix does not say its
 * architecture, and no name of a checkpoint means different things in two of them. Rows may be in another order there,
 * columns are the same.
 */

import { rule, type TensorRule } from "./names.js";

const L = "model.layers.{l}";

const part = (gguf: string, ...names: string[]): TensorRule[] =>
  names.map((name) => rule(`${L}.${name}`, `blk.{l}.${gguf}`));

export const LAYER_NAMES: readonly TensorRule[] = [
  rule("lm_head", "output"),
  rule("model.embed_tokens", "token_embd"),
  ...part("attn_q", "self_attn.q_proj"),
  ...part("attn_k", "self_attn.k_proj"),
  ...part("attn_v", "self_attn.v_proj"),
  ...part("attn_output", "self_attn.o_proj", "self_attn.dense"),
  ...part("attn_qkv", "self_attn.qkv_proj"),
  ...part("attn_q_a", "self_attn.q_a_proj"),
  ...part("attn_q_b", "self_attn.q_b_proj"),
  ...part("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"),
  ...part("attn_kv_b", "self_attn.kv_b_proj"),
  ...part("ffn_gate", "mlp.gate_proj"),
  ...part("ffn_up", "mlp.up_proj", "mlp.fc1", "mlp.c_fc", "mlp.gate_up_proj"),
  ...part("ffn_down", "mlp.down_proj", "mlp.fc2", "mlp.c_proj"),
  ...part("ffn_gate_inp", "block_sparse_moe.gate", "mlp.gate"),
  ...part("ffn_gate_exps", "block_sparse_moe.experts.{e}.w1", "mlp.experts.{e}.gate_proj"),
  ...part("ffn_up_exps", "block_sparse_moe.experts.{e}.w3", "mlp.experts.{e}.up_proj"),
  ...part("ffn_down_exps", "block_sparse_moe.experts.{e}.w2", "mlp.experts.{e}.down_proj"),
  ...part("ffn_gate_shexp", "mlp.shared_expert.gate_proj", "mlp.shared_experts.gate_proj"),
  ...part("ffn_up_shexp", "mlp.shared_expert.up_proj", "mlp.shared_experts.up_proj"),
  ...part("ffn_down_shexp", "mlp.shared_expert.down_proj", "mlp.shared_experts.down_proj"),
  ...part("ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
  ...["transformer.h.{l}", "h.{l}"].flatMap((layer) => [
    rule(`${layer}.attn.c_attn`, "blk.{l}.attn_qkv"),
    rule(`${layer}.attn.c_proj`, "blk.{l}.attn_output"),
    rule(`${layer}.mlp.c_fc`, "blk.{l}.ffn_up"),
    rule(`${layer}.mlp.c_proj`, "blk.{l}.ffn_down"),
  ]),
];
