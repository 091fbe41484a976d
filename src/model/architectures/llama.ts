import { attentionOf } from "../attention.js";
import { readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import type { Architecture } from "./architecture.js";

/** Llama 1 to 3. */
export const llama: Architecture = {
  name: "llama",
  classNames: ["LlamaForCausalLM"],
  modelTypes: ["llama"],
  compile(fields) {
    const config = readDecoderConfig(fields);
    return compileDecoder(config, (layer) =>
      preNorm(layer, attentionOf(config, layer), mlpOf(config, layer)),
    );
  },
};
