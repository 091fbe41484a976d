import { describe, expect, test } from "vitest";
import type { Program, WeightSpec } from "../src/backends/program.js";
import { compileModel } from "../src/model/architectures/index.js";
import { parseConfig } from "../src/model/config.js";
import { type PlanRequest, plan, type SourceTensor, substituteType } from "../src/plan.js";
import { TYPE_NAMES, TYPES } from "../src/quants/table.js";
import { readConfig } from "./fixtures/architecture.js";

function programOf(overrides: Record<string, unknown> = {}): Program {
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: 256,
    intermediate_size: 512,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 256,
    max_position_embeddings: 128,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
    ...overrides,
  };
  return compileModel(parseConfig(JSON.stringify(config)));
}

const bf16 = (weight: WeightSpec): SourceTensor => ({
  name: weight.tiedTo ?? weight.name,
  type: "BF16",
  shape: weight.shape,
});

const decide = (request: PlanRequest, program = programOf()) => plan(program, bf16, request);
const rowOf = (name: string, request: PlanRequest, program = programOf()) => {
  const row = decide(request, program).rows.find((candidate) => candidate.tensor === name);
  if (!row) throw new Error(`no ${name}`);
  return row;
};

describe("what ISQ touches", () => {
  test("projections and the head, never norms and embeddings", () => {
    for (const row of decide({ type: "Q4K" }).rows) {
      const touched = /_proj\.weight$|^lm_head\.weight$/.test(row.tensor);
      expect(row.algorithm !== null, row.tensor).toBe(touched);
      if (!touched) expect(row.reason, row.tensor).toMatch(/never|only where a topology/);
    }
  });

  test("without a type everything is kept as the checkpoint has it", () => {
    const decided = decide({ type: null });
    expect(decided.totals.quantizedTensors).toBe(0);
    expect(decided.rows.every((row) => row.type === "BF16")).toBe(true);
    expect(decided.totals.byteLength).toBe(decided.totals.sourceByteLength);
  });

  test("embeddings only where a rule names them", () => {
    const name = "model.embed_tokens.weight";
    const topology = [{ pattern: /embed_tokens/, isq: "Q8_0" as const }];
    expect(rowOf(name, { type: "Q4K" }).type).toBe("BF16");
    expect(rowOf(name, { type: "Q4K", topology }).type).toBe("Q8_0");
  });

  test("a tied head becomes its own quantized copy, and shares its data when it is kept", () => {
    const tied = programOf({ tie_word_embeddings: true });
    const quantized = rowOf("lm_head.weight", { type: "Q8_0" }, tied);
    expect(quantized.byteLength).toBe((256 * 256 * 34) / 32);
    expect(quantized.source.name).toBe("model.embed_tokens.weight");
    expect(quantized.reason).toMatch(/copy of model\.embed_tokens\.weight/);
    const kept = rowOf("lm_head.weight", { type: null }, tied);
    expect(kept.byteLength).toBe(0);
    const { totals } = decide({ type: null }, tied);
    expect(totals.sourceByteLength).toBe(totals.byteLength);
  });
});

describe("the organization moqe", () => {
  const EXPERTS = /\.experts\.\d+\.\w+\.weight$/;
  const MIXTURES = ["mixtral", "phi3.5moe", "qwen2moe", "qwen3moe", "deepseekv2", "deepseekv3"];
  const fixture = async (name: string) => compileModel(parseConfig(JSON.stringify(await readConfig(name))));

  test.each(MIXTURES)("quantizes the routed experts of %s and nothing else", async (name) => {
    const program = await fixture(name);
    const { rows } = decide({ type: "Q4K", organization: "moqe" }, program);
    const quantized = rows.filter((row) => row.algorithm !== null).map((row) => row.tensor);
    expect(quantized).toEqual(rows.map((row) => row.tensor).filter((tensor) => EXPERTS.test(tensor)));
    expect(quantized.length).toBeGreaterThan(0);
    for (const row of rows) expect(row.algorithm !== null || row.reason !== null, row.tensor).toBe(true);
  });

  test.each(MIXTURES)(
    "without it %s has its projections, head and experts quantized, no router",
    async (name) => {
      const program = await fixture(name);
      for (const row of decide({ type: "Q4K", organization: "default" }, program).rows) {
        const touched =
          EXPERTS.test(row.tensor) || /(_proj|_proj_with_mqa|lm_head)\.weight$/.test(row.tensor);
        expect(row.algorithm !== null, row.tensor).toBe(touched);
        if (/gate\.(weight|e_score_correction_bias)$/.test(row.tensor)) expect(row.algorithm).toBeNull();
      }
    },
  );

  test("is stronger than rules, which say so by deciding nothing", async () => {
    const topology = [
      { pattern: /q_proj|embed_tokens/, isq: "Q8_0" as const },
      { pattern: /experts\.1\./, isq: "Q6K" as const },
      { pattern: /experts\.2\./, isq: "none" as const },
    ];
    const request = { type: "Q4K", organization: "moqe", topology } as const;
    const { rows, unusedRules } = decide(request, await fixture("mixtral"));
    const types = new Map(rows.map(({ tensor, type }) => [tensor, type]));
    const at = "model.layers.0.block_sparse_moe.experts";
    expect([0, 1, 2, 3].map((expert) => types.get(`${at}.${expert}.w2.weight`))).toEqual([
      "Q4K",
      "Q6K",
      "BF16",
      "Q4K",
    ]);
    expect(types.get("model.layers.0.self_attn.q_proj.weight")).toBe("BF16");
    expect(types.get("model.embed_tokens.weight")).toBe("BF16");
    expect(unusedRules).toEqual([0]);
  });

  test("is refused for a model without experts, and words that are none are, too", () => {
    const refused = (request: PlanRequest, tag: string) =>
      expect(() => decide(request)).toThrow(
        expect.objectContaining({ tag, details: expect.objectContaining({ field: "organization" }) }),
      );
    refused({ type: "Q4K", organization: "moqe" }, "option/unsupported");
    refused({ type: null, organization: "moqe" }, "option/unsupported");
    refused({ type: "Q4K", organization: "MoQE" as "moqe" }, "option/invalid");
  });
});

describe("fallback chain", () => {
  const expected = { Q2K: "Q4_0", Q3K: "Q4_0", Q4K: "Q4_1", Q5K: "Q5_0", Q6K: "Q5_1", Q8K: "Q8_1" } as const;

  test.each(Object.entries(expected))("%s → %s when rows are not multiples of 256", (from, to) => {
    const result = substituteType(from as keyof typeof expected, [4, 96]);
    expect(result.type).toBe(to);
    expect(result.reason).toContain("96");
    expect(result.reason).toContain("256");
  });

  test("what fits no block is skipped and stays in its source type", () => {
    for (const type of TYPE_NAMES) {
      const result = substituteType(type, [3, 5]);
      if (type === "FP8") expect(result.type).toBe("FP8");
      else expect(result.type, type).toBeNull();
    }
    const odd = programOf({
      hidden_size: 20,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      intermediate_size: 256,
    });
    const row = rowOf("model.layers.0.self_attn.q_proj.weight", { type: "Q4K" }, odd);
    expect([row.type, row.substituted]).toEqual(["BF16", true]);
    expect(row.reason).toMatch(/^skipped/);
  });

  test("HQQ counts elements, not columns", () => {
    expect(substituteType("HQQ4", [2, 32]).type).toBe("HQQ4");
    expect(substituteType("HQQ4", [2, 31]).type).toBeNull();
  });

  test("a strict plan refuses substitutions by name", () => {
    const narrow = programOf({ intermediate_size: 96 });
    expect(() => decide({ type: "Q4K", strict: true }, narrow)).toThrowError(
      expect.objectContaining({
        tag: "plan/strict",
        details: expect.objectContaining({ tensor: expect.any(String) }),
      }),
    );
    expect(decide({ type: "Q4K", strict: true }).totals.quantizedTensors).toBe(15);
  });

  test("nothing to quantize is an error, not a silent success", () => {
    const odd = programOf({
      hidden_size: 20,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      intermediate_size: 20,
    });
    expect(() => decide({ type: "Q4_0" }, odd)).toThrowError(
      expect.objectContaining({ tag: "plan/nothing" }),
    );
  });
});

describe("topology", () => {
  const name = (layer: number, part = "q_proj") => `model.layers.${layer}.self_attn.${part}.weight`;

  test("pattern before range, later before earlier, inheritance and none", () => {
    const topology = [
      { pattern: /q_proj/, isq: "Q8_0" as const },
      { pattern: /layers\.1\..*q_proj/, isq: "Q6K" as const },
      { layers: { start: 0, end: 2 }, isq: "Q2K" as const },
      { layers: { start: 1, end: 2 } },
    ];
    const request: PlanRequest = { type: "Q4K", topology };
    expect(rowOf(name(0), request).type).toBe("Q8_0");
    expect(rowOf(name(1), request).type).toBe("Q6K");
    expect(rowOf(name(0, "k_proj"), request).type).toBe("Q2K");
    expect(rowOf(name(1, "k_proj"), request).type).toBe("Q4K");
    expect(rowOf("lm_head.weight", request).type).toBe("Q4K");
    const none = { ...request, topology: [{ layers: { start: 0, end: 1 }, isq: "none" as const }] };
    expect(rowOf(name(0), none).type).toBe("BF16");
  });

  test("rules that decide for nothing are reported", () => {
    const decided = decide({
      type: "Q4K",
      topology: [{ pattern: /nowhere/, isq: "Q8_0" }, { layers: { start: 0, end: 1 } }],
    });
    expect(decided.unusedRules).toEqual([0]);
  });
});

describe("importance", () => {
  const tensor = "model.layers.0.self_attn.q_proj.weight";
  const withVector = (values: number[], type: PlanRequest["type"] = "Q4K", strict = false): PlanRequest => ({
    type,
    strict,
    importance: new Map([[tensor, Float32Array.from(values)]]),
  });
  const ones = Array.from({ length: 256 }, () => 1);

  test("is used where type and algorithm have a variant", () => {
    expect(rowOf(tensor, withVector(ones)).importance).toBe("used");
  });

  test.each([
    ["the type takes none", ones, "Q8_0"],
    ["the length is wrong", [1, 2], "Q4K"],
    ["a value is negative", [...ones.slice(1), -1], "Q4K"],
    ["a value is NaN", [...ones.slice(1), Number.NaN], "Q4K"],
    ["it is all zeros", ones.map(() => 0), "Q4K"],
  ] as const)("is dropped with the reason when %s", (_why, values, type) => {
    const row = rowOf(tensor, withVector([...values], type));
    expect(row.importance).toBe("dropped");
    expect(row.reason).toMatch(/^importance dropped/);
    expect(() => rowOf(tensor, withVector([...values], type, true))).toThrowError(
      expect.objectContaining({ tag: "plan/strict" }),
    );
  });
});

describe("totals and hash", () => {
  test("sizes come from the table", () => {
    for (const type of TYPE_NAMES) {
      const row = rowOf("model.layers.0.mlp.down_proj.weight", { type });
      const { blockBytes, blockElements } = TYPES[type];
      expect(row.byteLength).toBe((256 * 512 * blockBytes) / blockElements);
      expect(row.bitsPerWeight).toBe((blockBytes * 8) / blockElements);
    }
    const { rows, totals } = decide({ type: "Q4K" });
    expect(totals.byteLength).toBe(rows.reduce((sum, row) => sum + row.byteLength, 0));
    expect(totals.peakByteLength).toBe(totals.byteLength + 512 * 256 * 6);
  });

  test("the hash depends on the decisions and on nothing else", () => {
    expect(decide({ type: "Q4K" }).hash).toBe(decide({ type: "Q4K" }).hash);
    expect(decide({ type: "Q4K" }).hash).not.toBe(decide({ type: "Q5K" }).hash);
    expect(decide({ type: "Q4K", algorithm: "mistralrs" }).hash).not.toBe(decide({ type: "Q4K" }).hash);
    expect(decide({ type: "Q4K" }).hash).toMatch(/^[0-9a-f]{64}$/);
  });
});
