import { attentionOf } from "../attention.js";
import { RANGES, readDecoderConfig } from "../config.js";
import { compileDecoder, preNorm } from "../decoder.js";
import { readBoolean, readInteger, readNumber } from "../fields.js";
import { mixture } from "../mixture.js";
import { readSlidingWindow } from "../windows.js";
import type { Architecture } from "./architecture.js";

/** Phi 3.5 MoE: layer norms, biases, and a router that chooses its experts one after the other. */
export const phi35moe: Architecture = {
  name: "phi3.5moe",
  classNames: ["PhiMoEForCausalLM", "PhimoeForCausalLM"],
  modelTypes: ["phimoe"],
  compile(fields) {
    const config = readDecoderConfig(fields, { norm: "layer", epsilon: 1e-5, rope: { theta: 1e6 } });
    const { intermediateWidth, activation } = config;
    const window = readSlidingWindow(fields);
    const experts = readInteger(fields, "num_local_experts", RANGES.experts, 16);
    const chosen = readInteger(fields, "num_experts_per_tok", { minimum: 1, maximum: experts }, 2);
    const jitter = readNumber(fields, "router_jitter_noise", { minimum: 0, maximum: 1 }, 0.01);
    const stem = { ...config, headBias: readBoolean(fields, "lm_head_bias", false) };
    return compileDecoder(stem, (layer) => {
      const at = `model.layers.${layer}.block_sparse_moe`;
      const names = { gate: "w1", down: "w2", up: "w3" };
      const router = { kind: "sparseMixer", jitter } as const;
      return preNorm(
        layer,
        attentionOf(config, layer, { window }),
        mixture({ layer, at, experts, chosen, intermediateWidth, activation, names, router }),
      );
    });
  },
};
