/** config.json of every architecture: the older style of its fields, and values that no model can have. */

import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Program } from "../../src/backends/program.js";
import { IsqError } from "../../src/errors.js";
import { LIMITS } from "../../src/limits.js";
import { compileModel } from "../../src/model/architectures/index.js";
import { parseConfig } from "../../src/model/config.js";
import { readConfig } from "../fixtures/architecture.js";

const FIXTURES = readdirSync(new URL("../fixtures/architectures", import.meta.url));

type Config = Record<string, unknown>;

const compile = (config: Config): Program => compileModel(parseConfig(JSON.stringify(config)));

/** The fields that transformers 4 wrote where 5 has `rope_parameters`, `dtype` and lists by layer. */
function older({ rope_parameters: rope, dtype, ...config }: Config): Config {
  const { rope_theta, rope_type, partial_rotary_factor, ...scaling } = (rope ?? {}) as Config;
  const own: Config = { ...config, torch_dtype: dtype };
  if (rope_theta !== undefined) own["rope_theta"] = rope_theta;
  if (partial_rotary_factor !== undefined) own["partial_rotary_factor"] = partial_rotary_factor;
  if (rope_type !== undefined && rope_type !== "default")
    own["rope_scaling"] = { type: rope_type, ...scaling };
  return own;
}

/** What else was otherwise in the older configs of some. */
const OLDER: Record<string, (config: Config) => Config> = {
  gemma: (config) => ({ ...config, hidden_act: "gelu" }),
  gemma2: ({ layer_types: _, ...config }) => config,
  gemma3: ({ layer_types: _, rope_parameters: rope, _sliding_window_pattern: __, ...config }) => {
    const { full_attention, sliding_attention } = rope as Record<string, Config>;
    const thetas = {
      rope_theta: full_attention["rope_theta"],
      rope_local_base_freq: sliding_attention["rope_theta"],
    };
    return { ...config, ...thetas, sliding_window_pattern: 2 };
  },
  phi3: ({ rope_scaling, ...config }) => {
    const { original_max_position_embeddings: _, ...lists } = rope_scaling as Config;
    return { ...config, rope_scaling: { ...lists, type: "su" } };
  },
  "phi3.5moe": (config) => ({ ...config, architectures: ["PhiMoEForCausalLM"] }),
  qwen2: ({ layer_types: _, ...config }) => config,
  qwen3moe: ({ num_local_experts, ...config }) => ({ ...config, num_experts: num_local_experts }),
  smollm3: ({ no_rope_layers: _, layer_types: __, ...config }) => ({ ...config, no_rope_layer_interval: 2 }),
};

describe.each(FIXTURES)("%s", (name) => {
  test("compiles to the same program from the older style", async () => {
    const config = await readConfig(name);
    const change = OLDER[name] ?? ((config: Config) => config);
    const program = compile(change(name === "gemma3" ? config : older(config)));
    expect(program).toEqual(compile(config));
  });

  test("is found by its model type alone", async () => {
    const { architectures: _, ...config } = await readConfig(name);
    expect(compile(config).ops).toEqual(compile(await readConfig(name)).ops);
  });

  test("refuses sizes that cannot be, naming field, value and limit", async () => {
    const config = await readConfig(name);
    const sizes = Object.keys(config).filter((field) => SIZES.test(field));
    expect(sizes.length).toBeGreaterThan(4);
    for (const field of sizes) {
      for (const value of [0, -1, 2 ** 31, 1.5, "2", [], {}, true]) {
        if (config[field] === null || (value === 0 && MAY_BE_ZERO.test(field))) continue;
        const error = refusalOf({ ...config, [field]: value });
        expect(error?.tag, `${field} = ${JSON.stringify(value)}`).toMatch(/^(config|shape)\/invalid$/);
        if (error?.tag !== "config/invalid") continue;
        expect(error.details).toHaveProperty("limit");
        expect(error.message).toContain(error.details.field);
      }
    }
  });

  test("takes any value of any field or refuses it by a tag", async () => {
    const config = await readConfig(name);
    for (const field of Object.keys(config)) {
      for (const value of [null, 0, -1, 3, 1e300, "", "x", [], [null], {}, { rope_type: "yarn" }, true]) {
        refusalOf({ ...config, [field]: value });
      }
      const { [field]: _, ...rest } = config;
      refusalOf(rest);
    }
  });
});

/** Fields that say how large something is. */
const SIZES =
  /^(hidden_size|intermediate_size|num_hidden_layers|num_attention_heads|num_key_value_heads|vocab_size|max_position_embeddings|num_(local_)?experts(_per_tok)?|moe_intermediate_size|shared_expert_intermediate_size|n_(embd|head|layer|positions|inner|routed_experts|shared_experts|group)|topk_group|kv_lora_rank|q_lora_rank|qk_(nope|rope)_head_dim|v_head_dim|first_k_dense_replace|head_dim)$/;
const MAY_BE_ZERO = /^(n_shared_experts|n_routed_experts|first_k_dense_replace)$/;

/** Null for a config that compiles. Anything but a tagged error is thrown. */
function refusalOf(config: Config): IsqError | null {
  try {
    compile(config);
    return null;
  } catch (error) {
    if (error instanceof IsqError) return error;
    throw error;
  }
}

describe("what only together cannot be", () => {
  const refused: [string, string, Config, string][] = [
    ["more experts chosen than there are", "mixtral", { num_experts_per_tok: 5 }, "num_experts_per_tok"],
    ["groups that do not hold all experts", "deepseekv3", { n_group: 3 }, "n_group"],
    ["more groups chosen than there are", "deepseekv3", { topk_group: 3 }, "topk_group"],
    ["groups too small", "deepseekv3", { n_group: 8, topk_group: 1 }, "topk_group"],
    ["an odd rotated part", "deepseekv2", { qk_rope_head_dim: 31 }, "qk_rope_head_dim"],
    [
      "an odd part of each head",
      "phi2",
      { rope_parameters: { partial_rotary_factor: 0.11 } },
      "partial_rotary_factor",
    ],
    ["heads that do not divide the width", "gpt2", { n_head: 3 }, "n_head"],
    ["layer types of another count", "gemma2", { layer_types: ["full_attention"] }, "layer_types"],
    ["an unknown layer type", "gemma3", { layer_types: ["full_attention", "chunked"] }, "layer_types"],
    ["rotating layers of another count", "smollm3", { no_rope_layers: [1] }, "no_rope_layers"],
    ["layers without experts that are none", "qwen2moe", { mlp_only_layers: ["x"] }, "mlp_only_layers"],
    ["factors for other heads", "phi3", { head_dim: 32 }, "rope_parameters.short_factor"],
    ["norms of queries and keys", "phi2", { qk_layernorm: true }, "qk_layernorm"],
    ["an unknown way to choose", "deepseekv2", { topk_method: "noaux_tc" }, "topk_method"],
  ];

  test.each(refused)("%s (%s)", async (_what, name, change, field) => {
    const error = refusalOf({ ...(await readConfig(name)), ...change });
    expect(error?.tag).toBe("config/invalid");
    expect(error?.details.field).toContain(field);
  });

  test("more weights than a checkpoint may have", async () => {
    const config = { ...(await readConfig("mixtral")), num_hidden_layers: 1000, num_local_experts: 1000 };
    expect(refusalOf(config)).toMatchObject({
      tag: "config/invalid",
      details: { limit: LIMITS.configWeights },
    });
  });
});
