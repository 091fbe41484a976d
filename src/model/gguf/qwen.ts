/** Qwen 2 and 3, dense and with experts. */

import type { GgufValue } from "../../files/gguf-values.js";
import { RANGES } from "../config.js";
import { type Fields, fieldValue, invalidField, readBoolean, readInteger } from "../fields.js";
import { readSparseLayers } from "../mixture.js";
import { count, readNumberKey } from "./keys.js";
import { rule } from "./names.js";
import {
  ACTIVATION_NAMES,
  attention,
  checkField,
  checkNoWindows,
  ENDS,
  EXPERT_WIDTH,
  EXPERTS,
  EXPERTS_USED,
  GATED,
  type GgufArchitecture,
  HEAD_NORMS,
  LAYER,
  NORMS,
  RMS,
  SIZES,
  sharedExpert,
} from "./parts.js";

const BLOCK = [...ENDS, ...attention("halves"), ...NORMS];

function checkDense(fields: Fields): void {
  checkField(fields, "hidden_act", ...ACTIVATION_NAMES.silu);
  checkNoWindows(fields);
}

/** llama.cpp gives every layer experts, and always or never makes their weights sum to 1. */
function checkSparse(fields: Fields, normalizes: boolean): void {
  checkDense(fields);
  const layers = readInteger(fields, "num_hidden_layers", RANGES.layers);
  const isSparse = readSparseLayers(fields, layers);
  for (let layer = 0; layer < layers; layer++) {
    if (isSparse(layer)) continue;
    throw invalidField(fields, "mlp_only_layers", layer, "no layer to be written as GGUF");
  }
  if (readBoolean(fields, "norm_topk_prob", false) !== normalizes) {
    throw invalidField(fields, "norm_topk_prob", !normalizes, `${normalizes} to be written as GGUF`);
  }
}

export const qwen2: GgufArchitecture = {
  name: "qwen2",
  modelTypes: { qwen2: {} },
  tensors: [...BLOCK, ...GATED],
  keys: [...SIZES, RMS],
  check: checkDense,
  identify: () => ({ className: "Qwen2ForCausalLM", modelType: "qwen2" }),
};

export const qwen3: GgufArchitecture = {
  name: "qwen3",
  modelTypes: { qwen3: { head_dim: 128 } },
  tensors: [...BLOCK, ...HEAD_NORMS, ...GATED],
  keys: [...SIZES, RMS],
  check: checkDense,
  identify: () => ({ className: "Qwen3ForCausalLM", modelType: "qwen3" }),
};

export const qwen2moe: GgufArchitecture = {
  name: "qwen2moe",
  modelTypes: {
    qwen2_moe: {
      num_experts: 60,
      num_experts_per_tok: 4,
      moe_intermediate_size: 1408,
      shared_expert_intermediate_size: 5632,
    },
  },
  tensors: [
    ...BLOCK,
    ...EXPERTS,
    ...sharedExpert("shared_expert"),
    rule(`${LAYER}.mlp.shared_expert_gate`, "blk.{l}.ffn_gate_inp_shexp", "row"),
  ],
  keys: [
    ...SIZES,
    RMS,
    count("expert_count", "num_experts"),
    EXPERTS_USED,
    EXPERT_WIDTH,
    count("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
  ],
  check: (fields) => checkSparse(fields, false),
  identify: () => ({ className: "Qwen2MoeForCausalLM", modelType: "qwen2_moe" }),
  readFields: (_keys, _config, tensors) => ({
    qkv_bias: tensors.has("blk.0.attn_q.bias"),
    norm_topk_prob: false,
  }),
};

/** Newer configs have the count of experts under Mixtral's name. */
const expertField = (fields: Fields) =>
  fieldValue(fields, "num_local_experts") === undefined ? "num_experts" : "num_local_experts";

export const qwen3moe: GgufArchitecture = {
  name: "qwen3moe",
  modelTypes: { qwen3_moe: { head_dim: 128, num_experts_per_tok: 8, moe_intermediate_size: 768 } },
  tensors: [...BLOCK, ...HEAD_NORMS, ...EXPERTS],
  keys: [...SIZES, RMS, EXPERTS_USED, EXPERT_WIDTH],
  check: (fields) => checkSparse(fields, true),
  *writeKeys(fields): Generator<readonly [string, GgufValue]> {
    const value = readInteger(fields, expertField(fields), RANGES.experts, 128);
    yield ["expert_count", { type: "u32", value }];
  },
  identify: () => ({ className: "Qwen3MoeForCausalLM", modelType: "qwen3_moe" }),
  readFields: (keys) => ({ num_experts: readNumberKey(keys, "expert_count"), norm_topk_prob: true }),
};
