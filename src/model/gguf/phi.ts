/** Phi 2, 3 and 3.5 MoE. */

import type { Fields } from "../fields.js";
import { readInteger, readNumber, readObject } from "../fields.js";
import { count } from "./keys.js";
import { rule } from "./names.js";
import {
  ACTIVATION_NAMES,
  attention,
  checkField,
  ENDS,
  EXPERTS_USED,
  type GgufArchitecture,
  type HeadShape,
  headsOf,
  LAYER,
  layerNorm,
  MIXTRAL_EXPERTS,
  NORMS,
  RMS,
  SIZES,
  WINDOW,
} from "./parts.js";

/** Heads of which only a part is rotated. */
function partialHeads(fields: Fields, fallback: number): HeadShape {
  const shape = headsOf(fields);
  const name = "partial_rotary_factor";
  const range = { minimum: 1e-6, maximum: 1 };
  const outer = readNumber(fields, name, range, fallback);
  const inner = readObject(fields, "rope_parameters");
  const fraction = inner ? readNumber(inner, name, range, outer) : outer;
  return { ...shape, rotaryWidth: Math.floor(shape.keyWidth * fraction) };
}

export const phi2: GgufArchitecture = {
  name: "phi2",
  modelTypes: { phi: {} },
  tensors: [
    rule("model.embed_tokens", "token_embd"),
    rule("model.final_layernorm", "output_norm"),
    rule("lm_head", "output"),
    ...attention("halves", "dense"),
    rule(`${LAYER}.input_layernorm`, "blk.{l}.attn_norm"),
    rule(`${LAYER}.mlp.fc1`, "blk.{l}.ffn_up"),
    rule(`${LAYER}.mlp.fc2`, "blk.{l}.ffn_down"),
  ],
  keys: [...SIZES, layerNorm("layer_norm_eps")],
  heads: (fields) => partialHeads(fields, 0.5),
  check: (fields) => checkField(fields, "hidden_act", ...ACTIVATION_NAMES.geluTanh),
  identify: () => ({ className: "PhiForCausalLM", modelType: "phi" }),
};

export const phi3: GgufArchitecture = {
  name: "phi3",
  modelTypes: { phi3: { rms_norm_eps: 1e-5 } },
  tensors: [
    ...ENDS,
    rule(`${LAYER}.self_attn.qkv_proj`, "blk.{l}.attn_qkv"),
    rule(`${LAYER}.self_attn.o_proj`, "blk.{l}.attn_output"),
    ...NORMS,
    rule(`${LAYER}.mlp.gate_up_proj`, "blk.{l}.ffn_up"),
    rule(`${LAYER}.mlp.down_proj`, "blk.{l}.ffn_down"),
  ],
  keys: [...SIZES, RMS, WINDOW],
  heads: (fields) => partialHeads(fields, 1),
  check: (fields) => checkField(fields, "hidden_act", ...ACTIVATION_NAMES.silu),
  identify: () => ({ className: "Phi3ForCausalLM", modelType: "phi3" }),
};

export const phimoe: GgufArchitecture = {
  name: "phimoe",
  modelTypes: {
    phimoe: { rms_norm_eps: 1e-5, rope_theta: 1e6, num_local_experts: 16, num_experts_per_tok: 2 },
  },
  tensors: [...ENDS, ...attention("halves"), ...NORMS, ...MIXTRAL_EXPERTS],
  keys: [
    ...SIZES,
    layerNorm("rms_norm_eps"),
    count("expert_count", "num_local_experts"),
    EXPERTS_USED,
    WINDOW,
  ],
  check(fields) {
    checkField(fields, "hidden_act", ...ACTIVATION_NAMES.silu);
    checkField(fields, "router_jitter_noise", 0.01);
  },
  *writeKeys(fields) {
    // llama.cpp asks for the RMS epsilon as well: it norms by the root mean square, see docs/findings.md.
    const value = readNumber(fields, "rms_norm_eps", { minimum: 0, maximum: 1 });
    yield ["attention.layer_norm_rms_epsilon", { type: "f32", value }];
    const width = readInteger(fields, "intermediate_size", { minimum: 1, maximum: 2 ** 30 });
    yield ["expert_feed_forward_length", { type: "u32", value: width }];
  },
  identify: () => ({ className: "PhiMoEForCausalLM", modelType: "phimoe" }),
  readFields: (_keys, _config, tensors) => ({ lm_head_bias: tensors.has("output.bias") }),
};
