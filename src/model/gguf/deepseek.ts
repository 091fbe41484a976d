/** DeepSeek V2 and V3: latent attention, and experts behind a few dense layers. */

import type { GgufValue } from "../../files/gguf-values.js";
import { RANGES } from "../config.js";
import { readDeepseek } from "../deepseek.js";
import { type Fields, invalidField, readBoolean, readChoice, readNumber } from "../fields.js";
import { count, type Keys, needNumberKey, readNumberKey } from "./keys.js";
import { rule } from "./names.js";
import {
  ACTIVATION_NAMES,
  type ConfigValues,
  checkField,
  ENDS,
  EXPERTS,
  GATED,
  type GgufArchitecture,
  LAYER,
  NORMS,
  RMS,
  SIZES,
  sharedExpert,
} from "./parts.js";

/** `expert_gating_func`. */
const GATING = { softmax: 1, sigmoid: 2 };

const isSigmoid = (keys: Keys) => readNumberKey(keys, "expert_gating_func") === GATING.sigmoid;

export const deepseek2: GgufArchitecture = {
  name: "deepseek2",
  modelTypes: {
    deepseek_v2: { routed_scaling_factor: 1, norm_topk_prob: false },
    deepseek_v3: { routed_scaling_factor: 2.5, norm_topk_prob: true },
  },
  tensors: [
    ...ENDS,
    ...NORMS,
    ...GATED,
    rule(`${LAYER}.self_attn.q_proj`, "blk.{l}.attn_q"),
    rule(`${LAYER}.self_attn.q_a_proj`, "blk.{l}.attn_q_a"),
    rule(`${LAYER}.self_attn.q_a_layernorm`, "blk.{l}.attn_q_a_norm"),
    rule(`${LAYER}.self_attn.q_b_proj`, "blk.{l}.attn_q_b"),
    rule(`${LAYER}.self_attn.kv_a_proj_with_mqa`, "blk.{l}.attn_kv_a_mqa"),
    rule(`${LAYER}.self_attn.kv_a_layernorm`, "blk.{l}.attn_kv_a_norm"),
    rule(`${LAYER}.self_attn.kv_b_proj`, "blk.{l}.attn_kv_b"),
    rule(`${LAYER}.self_attn.o_proj`, "blk.{l}.attn_output"),
    ...EXPERTS,
    ...sharedExpert("shared_experts"),
    rule(`${LAYER}.mlp.gate.e_score_correction_bias`, "blk.{l}.exp_probs_b.bias"),
  ],
  keys: [
    ...SIZES,
    RMS,
    count("attention.q_lora_rank", "q_lora_rank", null),
    count("attention.kv_lora_rank", "kv_lora_rank", 512),
    count("leading_dense_block_count", "first_k_dense_replace", 0),
    count("expert_count", "n_routed_experts", 0),
    count("expert_used_count", "num_experts_per_tok", 0),
    count("expert_shared_count", "n_shared_experts", 0),
    count("expert_feed_forward_length", "moe_intermediate_size", 0),
    count("expert_group_count", "n_group", null),
    count("expert_group_used_count", "topk_group", null),
  ],
  heads(fields) {
    const { decoder, latent } = readDeepseek(fields);
    const { plainWidth, rotaryWidth, valueWidth } = latent;
    const { heads } = decoder;
    return { heads, kvHeads: heads, keyWidth: plainWidth + rotaryWidth, valueWidth, rotaryWidth };
  },
  check(fields) {
    checkField(fields, "hidden_act", ...ACTIVATION_NAMES.silu);
    checkField(fields, "moe_layer_freq", 1);
    checkField(fields, "rope_interleave", true);
  },
  *writeKeys(fields): Generator<readonly [string, GgufValue]> {
    const older = isOlder(fields);
    yield ["expert_gating_func", { type: "u32", value: older ? GATING.softmax : GATING.sigmoid }];
    // V2 either makes the weights sum to 1 or scales them; a file can say both.
    const normalizes = readBoolean(fields, "norm_topk_prob", !older);
    yield ["expert_weights_norm", { type: "bool", value: normalizes }];
    const scale = readNumber(fields, "routed_scaling_factor", RANGES.scale);
    yield ["expert_weights_scale", { type: "f32", value: older && normalizes ? 1 : scale }];
  },
  identify: (keys) =>
    isSigmoid(keys)
      ? { className: "DeepseekV3ForCausalLM", modelType: "deepseek_v3" }
      : { className: "DeepseekV2ForCausalLM", modelType: "deepseek_v2" },
  readFields: readDeepseekFields,
};

/** Whether a config is V2's. Throws `config/invalid` for groups that a file cannot say. */
function isOlder(fields: Fields): boolean {
  if (fields.values["model_type"] !== "deepseek_v2") return false;
  const method = readChoice(fields, "topk_method", ["greedy", "group_limited_greedy"], "greedy");
  const { groups } = readDeepseek(fields);
  if (method === "greedy" && groups.count > 1) {
    throw invalidField(fields, "n_group", groups.count, "1 with topk_method greedy to be written as GGUF");
  }
  return true;
}

function readDeepseekFields(keys: Keys, config: ConfigValues): ConfigValues {
  // Where keys and values are split, the plain lengths are those of the latent row.
  const widthOf = (name: string) => readNumberKey(keys, `${name}_mla`) ?? needNumberKey(keys, name);
  const rotary = needNumberKey(keys, "rope.dimension_count");
  const groups = Number(config["n_group"] ?? 1);
  const sigmoid = isSigmoid(keys);
  const normalizes = keys.metadata.get(`${keys.architecture}.expert_weights_norm`);
  return {
    head_dim: rotary,
    partial_rotary_factor: 1,
    num_key_value_heads: config["num_attention_heads"],
    qk_rope_head_dim: rotary,
    qk_nope_head_dim: widthOf("attention.key_length") - rotary,
    v_head_dim: widthOf("attention.value_length"),
    routed_scaling_factor: readNumberKey(keys, "expert_weights_scale") || 1,
    norm_topk_prob: normalizes?.type === "bool" ? normalizes.value : false,
    ...(!sigmoid && { topk_method: groups > 1 ? "group_limited_greedy" : "greedy" }),
  };
}
