import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { readOptionalWindows } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Qwen 2 and 2.5: llama with biases of queries, keys and values. */
export const qwen2: Architecture = {
  name: "qwen2",
  classNames: ["Qwen2ForCausalLM"],
  modelTypes: ["qwen2"],
  compile(fields) {
    const config = readDecoderConfig(fields);
    const windows = readOptionalWindows(fields, config.layers);
    return compileDecoder(config, (layer) => {
      const window = windows[layer];
      const attention = attentionOf(config, layer, { window, inputBias: true, outputBias: false });
      return preNorm(layer, attention, mlpOf(config, layer));
    });
  },
};
