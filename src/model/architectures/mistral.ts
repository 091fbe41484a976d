import { readDecoderConfig, readSlidingWindow } from "../config.js";
import { compileDecoder } from "../decoder.js";
import type { Architecture } from "./architecture.js";

/** Mistral: llama with an optional sliding window and no biases. */
export const mistral: Architecture = {
  name: "mistral",
  classNames: ["MistralForCausalLM"],
  modelTypes: ["mistral"],
  compile: (fields) =>
    compileDecoder({
      ...readDecoderConfig(fields),
      slidingWindow: readSlidingWindow(fields),
      attentionBias: false,
    }),
};
