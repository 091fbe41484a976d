import { describe, expect, test } from "vitest";
import { type ErrorTag, IsqError } from "../../src/errors.js";
import { compileModel } from "../../src/model/architectures/index.js";
import { parseConfig, readDecoderConfig } from "../../src/model/config.js";
import { readSlidingWindow } from "../../src/model/windows.js";

const BASE = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 32,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
};

const fieldsOf = (change: object) =>
  parseConfig(JSON.stringify({ ...BASE, ...change }), "config.json").fields;
const read = (change: object = {}) => readDecoderConfig(fieldsOf(change));

function refusal(run: () => unknown): IsqError {
  try {
    run();
  } catch (error) {
    if (error instanceof IsqError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("a decoder's config", () => {
  test("reads the older style", () => {
    const older = read({
      torch_dtype: "bfloat16",
      rope_theta: 500000,
      rope_scaling: {
        type: "llama3",
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 64,
      },
    });
    const newer = read({
      dtype: "bfloat16",
      rope_parameters: {
        rope_type: "llama3",
        rope_theta: 500000,
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 64,
      },
    });
    expect(older).toEqual(newer);
    expect(older.rope).toEqual({
      kind: "llama3",
      theta: 500000,
      factor: 8,
      lowFactor: 1,
      highFactor: 4,
      originalContext: 64,
    });
  });

  test("takes null as absent, and transformers' defaults", () => {
    const config = read({
      head_dim: null,
      rope_scaling: null,
      num_key_value_heads: null,
      tie_word_embeddings: null,
    });
    expect(config).toMatchObject({ headWidth: 16, kvHeads: 4, tiedHead: false, attentionBias: false });
    expect(config.rope).toEqual({ kind: "default", theta: 10000 });
    expect(read({ head_dim: 32 }).headWidth).toBe(32);
    expect(readSlidingWindow(fieldsOf({ sliding_window: null }))).toBeNull();
    expect(readSlidingWindow(fieldsOf({ sliding_window: 16 }))).toBe(16);
  });

  test("reads begin and end tokens, one or several", () => {
    const config = parseConfig(JSON.stringify({ bos_token_id: 1, eos_token_id: [2, 7] }));
    expect(config).toMatchObject({ beginToken: 1, endTokens: [2, 7] });
    expect(parseConfig(JSON.stringify({ eos_token_id: 2 })).endTokens).toEqual([2]);
    expect(parseConfig("{}")).toMatchObject({
      beginToken: null,
      endTokens: [],
      className: null,
      modelType: null,
    });
  });

  const refused: [string, object, ErrorTag, string][] = [
    ["no heads", { num_attention_heads: 0 }, "config/invalid", "num_attention_heads"],
    ["2^31 layers", { num_hidden_layers: 2 ** 31 }, "config/invalid", "num_hidden_layers"],
    ["half a layer", { num_hidden_layers: 1.5 }, "config/invalid", "num_hidden_layers"],
    ["layers as text", { num_hidden_layers: "2" }, "config/invalid", "num_hidden_layers"],
    ["a width that no model has", { hidden_size: 1e12 }, "config/invalid", "hidden_size"],
    ["a negative vocabulary", { vocab_size: -1 }, "config/invalid", "vocab_size"],
    [
      "heads that do not share keys evenly",
      { num_key_value_heads: 3 },
      "config/invalid",
      "num_key_value_heads",
    ],
    [
      "heads that do not divide the width",
      { num_attention_heads: 5 },
      "config/invalid",
      "num_key_value_heads",
    ],
    ["an odd head", { head_dim: 15 }, "config/invalid", "head_dim"],
    ["heads wider than any", { head_dim: 1_000_000 }, "config/invalid", "head_dim"],
    ["no epsilon to speak of", { rms_norm_eps: 0 }, "config/invalid", "rms_norm_eps"],
    ["another activation", { hidden_act: "relu" }, "config/invalid", "hidden_act"],
    ["an unknown scaling", { rope_scaling: { type: "dynamic" } }, "config/invalid", "rope_scaling.type"],
    [
      "an unknown newer scaling",
      { rope_parameters: { rope_type: "dynamic" } },
      "config/invalid",
      "rope_parameters.rope_type",
    ],
    ["a scaling that is no object", { rope_scaling: 8 }, "config/invalid", "rope_scaling"],
    [
      "a scaling without its factor",
      { rope_parameters: { rope_type: "linear" } },
      "config/missing",
      "rope_parameters.factor",
    ],
    ["a theta of zero", { rope_theta: 0 }, "config/invalid", "rope_theta"],
    ["a tie that is not a choice", { tie_word_embeddings: "yes" }, "config/invalid", "tie_word_embeddings"],
    ["no width", { hidden_size: null }, "config/missing", "hidden_size"],
    ["no layers", { num_hidden_layers: undefined }, "config/missing", "num_hidden_layers"],
  ];
  test.each(refused)("refuses %s", (_, change, tag, field) => {
    const error = refusal(() => read(change));
    expect(error.tag).toBe(tag);
    expect(error.details).toMatchObject({ file: "config.json", field });
    expect(error.message).toContain(field);
    if (tag === "config/invalid" && field !== "rope_scaling") expect(error.details.limit).toBeDefined();
  });

  test("refuses what is not a JSON object, and lists that are not", () => {
    for (const text of ["", "[]", "null", "{", '"x"'])
      expect(refusal(() => parseConfig(text)).tag).toBe("config/invalid");
    expect(refusal(() => parseConfig('{"architectures":"x"}')).details.field).toBe("architectures");
    expect(refusal(() => parseConfig('{"eos_token_id":-2}')).details.field).toBe("eos_token_id");
  });

  test("is not fooled by __proto__", () => {
    const config = parseConfig('{"__proto__":{"hidden_size":64}}');
    expect(refusal(() => readDecoderConfig(config.fields)).tag).toBe("config/missing");
  });

  test("sizes that only together are impossible are refused by the program", () => {
    const config = parseConfig(JSON.stringify({ ...BASE, hidden_size: 1_000_000, vocab_size: 10_000_000 }));
    expect(refusal(() => compileModel(config)).tag).toBe("shape/invalid");
  });
});

describe("a compiled program", () => {
  test("names weights as Hugging Face does, with roles, layers and shapes", () => {
    const program = compileModel(parseConfig(JSON.stringify({ ...BASE, tie_word_embeddings: true })));
    const find = (name: string) => program.weights.find((weight) => weight.name === name);
    expect(program.weights).toHaveLength(1 + 2 * 9 + 2);
    expect(find("model.embed_tokens.weight")).toMatchObject({
      role: "embedding",
      layer: null,
      shape: [32, 64],
    });
    expect(find("model.layers.1.self_attn.k_proj.weight")).toMatchObject({
      role: "linear",
      layer: 1,
      shape: [32, 64],
    });
    expect(find("model.layers.0.mlp.down_proj.weight")).toMatchObject({
      role: "linear",
      layer: 0,
      shape: [64, 128],
    });
    expect(find("lm_head.weight")).toMatchObject({
      role: "head",
      tiedTo: "model.embed_tokens.weight",
      shape: [32, 64],
    });
    expect(program).toMatchObject({
      vocabulary: 32,
      contextLength: 128,
      cacheLayers: 2,
      keyWidth: 32,
      valueWidth: 32,
    });
  });

  test("has biases where the config says so", () => {
    const program = compileModel(
      parseConfig(JSON.stringify({ ...BASE, attention_bias: true, mlp_bias: true })),
    );
    expect(program.weights.filter(({ role }) => role === "bias")).toHaveLength(2 * 7);
    expect(program.weights.find(({ name }) => name === "lm_head.weight")).not.toHaveProperty("tiedTo");
  });
});
