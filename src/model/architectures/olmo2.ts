import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import type { Architecture } from "./architecture.js";

/** OLMo 2: norms after each part instead of before, and of whole rows of queries and keys. */
export const olmo2: Architecture = {
  name: "olmo2",
  classNames: ["Olmo2ForCausalLM"],
  modelTypes: ["olmo2"],
  compile(fields) {
    const config = readDecoderConfig(fields, { epsilon: 1e-5 });
    const norms = { style: config.norm, over: "row" } as const;
    return compileDecoder(config, (layer) => {
      const at = `model.layers.${layer}`;
      return [
        { after: `${at}.post_attention_layernorm`, parts: [attentionOf(config, layer, { norms })] },
        { after: `${at}.post_feedforward_layernorm`, parts: [mlpOf(config, layer)] },
      ];
    });
  },
};
