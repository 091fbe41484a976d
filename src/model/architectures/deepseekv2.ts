import { RANGES } from "../config.js";
import { compileDeepseek, readDeepseek } from "../deepseek.js";
import { readBoolean, readChoice, readNumber } from "../fields.js";
import type { Architecture } from "./architecture.js";

/** DeepSeek V2: latent attention, dense first layers, then experts by softmax, of the best groups only in the large models. */
export const deepseekv2: Architecture = {
  name: "deepseekv2",
  classNames: ["DeepseekV2ForCausalLM"],
  modelTypes: ["deepseek_v2"],
  compile(fields) {
    const config = readDeepseek(fields);
    const method = readChoice(fields, "topk_method", ["greedy", "group_limited_greedy"], "greedy");
    const scale = readNumber(fields, "routed_scaling_factor", RANGES.scale, 1);
    // Weights are either made to sum to 1 or scaled, never both.
    const normalizes = readBoolean(fields, "norm_topk_prob", false) && config.chosen > 1;
    return compileDeepseek({
      ...config,
      interleaved: true,
      router: {
        kind: "scores",
        scores: "softmax",
        ...(method === "group_limited_greedy" && { groups: { ...config.groups, rate: "largest" } }),
        ...(normalizes && { normalize: { epsilon: 1e-20 } }),
        scale: normalizes ? 1 : scale,
      },
    });
  },
};
