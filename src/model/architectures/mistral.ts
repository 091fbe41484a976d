import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { readSlidingWindow } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Mistral: llama with an optional sliding window and no biases. */
export const mistral: Architecture = {
  name: "mistral",
  classNames: ["MistralForCausalLM"],
  modelTypes: ["mistral"],
  compile(fields) {
    const config = { ...readDecoderConfig(fields), attentionBias: false };
    const window = readSlidingWindow(fields);
    return compileDecoder(config, (layer) =>
      preNorm(layer, attentionOf(config, layer, { window }), mlpOf(config, layer)),
    );
  },
};
