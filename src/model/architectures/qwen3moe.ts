import { attentionOf } from "../attention.js";
import { RANGES, readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { fieldValue, readBoolean, readInteger } from "../fields.js";
import { mixture, readSparseLayers } from "../mixture.js";
import { readOptionalWindows } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Qwen 3 MoE: qwen3 with experts. */
export const qwen3moe: Architecture = {
  name: "qwen3moe",
  classNames: ["Qwen3MoeForCausalLM"],
  modelTypes: ["qwen3_moe"],
  compile(fields) {
    const config = readDecoderConfig(fields, { headWidth: 128 });
    const { activation, layers } = config;
    const windows = readOptionalWindows(fields, layers, () => "sliding_attention");
    const isSparse = readSparseLayers(fields, layers);
    const norms = { style: config.norm, over: "head" } as const;
    // Newer configs have the name that mixtral has.
    const newer = fieldValue(fields, "num_local_experts") !== undefined;
    const experts = readInteger(fields, newer ? "num_local_experts" : "num_experts", RANGES.experts, 128);
    const chosen = readInteger(fields, "num_experts_per_tok", { minimum: 1, maximum: experts }, 8);
    const intermediateWidth = readInteger(fields, "moe_intermediate_size", RANGES.width, 768);
    const normalize = readBoolean(fields, "norm_topk_prob", false) && { normalize: { epsilon: 0 } };
    const router = { kind: "scores", scores: "softmax", scale: 1, ...normalize } as const;
    return compileDecoder(config, (layer) => {
      const at = `model.layers.${layer}.mlp`;
      const attention = attentionOf(config, layer, { window: windows[layer], norms });
      const sparse = { layer, at, experts, chosen, intermediateWidth, activation, router };
      return preNorm(layer, attention, isSparse(layer) ? mixture(sparse) : mlpOf(config, layer));
    });
  },
};
