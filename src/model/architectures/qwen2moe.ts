import { attentionOf } from "../attention.js";
import { RANGES, readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { readBoolean, readInteger } from "../fields.js";
import { mixture, readSparseLayers } from "../mixture.js";
import { readOptionalWindows } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Qwen 2 MoE: qwen2 with experts, one of which sees every token through a gate of its own. */
export const qwen2moe: Architecture = {
  name: "qwen2moe",
  classNames: ["Qwen2MoeForCausalLM"],
  modelTypes: ["qwen2_moe"],
  compile(fields) {
    const config = readDecoderConfig(fields);
    const { activation, layers } = config;
    const windows = readOptionalWindows(fields, layers);
    const inputBias = readBoolean(fields, "qkv_bias", true);
    const isSparse = readSparseLayers(fields, layers);
    const experts = readInteger(fields, "num_experts", RANGES.experts, 60);
    const chosen = readInteger(fields, "num_experts_per_tok", { minimum: 1, maximum: experts }, 4);
    const intermediateWidth = readInteger(fields, "moe_intermediate_size", RANGES.width, 1408);
    const normalize = readBoolean(fields, "norm_topk_prob", false) && { normalize: { epsilon: 0 } };
    const router = { kind: "scores", scores: "softmax", scale: 1, ...normalize } as const;
    const shared = {
      name: "shared_expert",
      intermediateWidth: readInteger(fields, "shared_expert_intermediate_size", RANGES.width, 5632),
      gate: "shared_expert_gate",
    };
    return compileDecoder(config, (layer) => {
      const at = `model.layers.${layer}.mlp`;
      const attention = attentionOf(config, layer, { window: windows[layer], inputBias, outputBias: false });
      const sparse = { layer, at, experts, chosen, intermediateWidth, activation, router, shared };
      return preNorm(layer, attention, isSparse(layer) ? mixture(sparse) : mlpOf(config, layer));
    });
  },
};
