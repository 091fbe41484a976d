import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { readSlidingWindow } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Phi 3, 3.5 and 4: mistral with fused projections and, for long contexts, longrope. */
export const phi3: Architecture = {
  name: "phi3",
  classNames: ["Phi3ForCausalLM"],
  modelTypes: ["phi3"],
  compile(fields) {
    const config = { ...readDecoderConfig(fields, { epsilon: 1e-5 }), attentionBias: false };
    const window = readSlidingWindow(fields);
    return compileDecoder(config, (layer) =>
      preNorm(
        layer,
        attentionOf(config, layer, { window, fused: "qkv_proj" }),
        mlpOf(config, layer, { fused: "gate_up_proj" }),
      ),
    );
  },
};
