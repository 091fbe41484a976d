import { attentionOf } from "../attention.js";
import { RANGES, readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { mlpOf } from "../feed-forward.js";
import { readNumber } from "../fields.js";
import type { Architecture } from "./architecture.js";

/** Granite 3: llama with factors of embedding, residuals, scores and logits. */
export const granite: Architecture = {
  name: "granite",
  classNames: ["GraniteForCausalLM"],
  modelTypes: ["granite"],
  compile(fields) {
    const config = readDecoderConfig(fields);
    const scale = readNumber(fields, "attention_multiplier", RANGES.scale, 1);
    const stem = {
      ...config,
      embeddingScale: readNumber(fields, "embedding_multiplier", RANGES.scale, 1),
      residualScale: readNumber(fields, "residual_multiplier", RANGES.scale, 1),
      logitScale: 1 / readNumber(fields, "logits_scaling", RANGES.scale, 1),
    };
    return compileDecoder(stem, (layer) =>
      preNorm(layer, attentionOf(config, layer, { scale }), mlpOf(config, layer)),
    );
  },
};
