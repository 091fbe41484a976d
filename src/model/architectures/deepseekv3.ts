import { RANGES } from "../config.js";
import { compileDeepseek, readDeepseek } from "../deepseek.js";
import { readBoolean, readNumber } from "../fields.js";
import type { Architecture } from "./architecture.js";

/** DeepSeek V3 and R1: V2 with experts by sigmoid, chosen with a bias that balances them. */
export const deepseekv3: Architecture = {
  name: "deepseekv3",
  classNames: ["DeepseekV3ForCausalLM"],
  modelTypes: ["deepseek_v3"],
  compile(fields) {
    const config = readDeepseek(fields);
    return compileDeepseek({
      ...config,
      interleaved: readBoolean(fields, "rope_interleave", true),
      routerBias: "e_score_correction_bias",
      router: {
        kind: "scores",
        scores: "sigmoid",
        groups: { ...config.groups, rate: "twoLargest" },
        ...(readBoolean(fields, "norm_topk_prob", true) && { normalize: { epsilon: 1e-20 } }),
        scale: readNumber(fields, "routed_scaling_factor", RANGES.scale, 2.5),
      },
    });
  },
};
