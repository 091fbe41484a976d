import { attentionOf } from "../attention.js";
import { RANGES, readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { readInteger } from "../fields.js";
import { mixture } from "../mixture.js";
import { readSlidingWindow } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Mixtral: mistral with experts; the weights of the chosen ones are made to sum to 1. */
export const mixtral: Architecture = {
  name: "mixtral",
  classNames: ["MixtralForCausalLM"],
  modelTypes: ["mixtral"],
  compile(fields) {
    const config = {
      ...readDecoderConfig(fields, { epsilon: 1e-5, rope: { theta: 1e6 } }),
      attentionBias: false,
    };
    const { intermediateWidth, activation } = config;
    const window = readSlidingWindow(fields);
    const experts = readInteger(fields, "num_local_experts", RANGES.experts, 8);
    const chosen = readInteger(fields, "num_experts_per_tok", { minimum: 1, maximum: experts }, 2);
    return compileDecoder(config, (layer) => {
      const at = `model.layers.${layer}.block_sparse_moe`;
      const names = { gate: "w1", down: "w2", up: "w3" };
      const router = { kind: "scores", scores: "softmax", normalize: { epsilon: 0 }, scale: 1 } as const;
      return preNorm(
        layer,
        attentionOf(config, layer, { window }),
        mixture({ layer, at, experts, chosen, intermediateWidth, activation, names, router }),
      );
    });
  },
};
