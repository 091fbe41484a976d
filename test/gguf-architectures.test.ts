/** Every architecture written as GGUF and read again: the program of its config, its tensors, and what it computes. */

import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Program } from "../src/backends/program.js";
import { wasm } from "../src/backends/wasm.js";
import { widen } from "../src/dense.js";
import type { Directory } from "../src/files/directory.js";
import { openGguf } from "../src/files/gguf.js";
import type { ImatrixEntry } from "../src/files/imatrix-entry.js";
import { fromBytes } from "../src/files/source.js";
import { matchImportance } from "../src/importance.js";
import { type OpenedModel, openModel } from "../src/load.js";
import { ggufArchitectureOf } from "../src/model/gguf/architectures.js";
import { ggufNamesOf } from "../src/model/gguf/names.js";
import { LanguageModel } from "../src/model/language-model.js";
import { placeModel } from "../src/place.js";
import { plan } from "../src/plan.js";
import { makeCheckpoint, makeVariant } from "./fixtures/architecture.js";
import { expectSame, ggufDirectory, toGguf } from "./gguf-support.js";
import { largestDifference } from "./model/support.js";

const YARN = { rope_type: "yarn", factor: 8, original_max_position_embeddings: 64, rope_theta: 10000 };
const FULL_SLIDING = {
  full_attention: { rope_type: "linear", factor: 8, rope_theta: 1e6 },
  sliding_attention: { rope_type: "default", rope_theta: 2e4 },
};

/** Fixtures, and variants of them for what their configs do not say. */
const VARIANTS: Readonly<Record<string, () => Promise<Directory>>> = {
  // A file cannot say that the second layer has no positions.
  smollm3: () => makeVariant("smollm3", { no_rope_layers: null, layer_types: null }, 5),
  "llama, yarn": () => makeVariant("llama", { rope_parameters: YARN }),
  "llama, yarn with turns and magnitude": () =>
    makeVariant("llama", {
      rope_parameters: { ...YARN, beta_fast: 24, beta_slow: 2, attention_factor: 1.5 },
    }),
  "llama, linear": () =>
    makeVariant("llama", { rope_parameters: { rope_type: "linear", factor: 4, rope_theta: 1e4 } }),
  "deepseekv3, yarn": () =>
    makeVariant("deepseekv3", { rope_parameters: { ...YARN, mscale: 1, mscale_all_dim: 1 } }),
  "deepseekv2, groups": () =>
    makeVariant("deepseekv2", { topk_method: "group_limited_greedy", n_group: 4, topk_group: 2 }),
  "deepseekv2, weights that sum to 1": () =>
    makeVariant("deepseekv2", { norm_topk_prob: true, routed_scaling_factor: 16 }),
  "gemma2, soft caps": () =>
    makeVariant("gemma2", { attn_logit_softcapping: 20, final_logit_softcapping: 12 }),
  "gemma3, every third layer": () =>
    makeVariant(
      "gemma3",
      { layer_types: null, _sliding_window_pattern: 3, rope_parameters: FULL_SLIDING },
      7,
    ),
  "gemma3, every sixth layer": () =>
    makeVariant("gemma3", { layer_types: null, final_logit_softcapping: 30 }, 7),
  "phi3.5moe without biases of the head": () => makeVariant("phi3.5moe", { lm_head_bias: false }),
};

const FIXTURES = readdirSync(new URL("fixtures/architectures/", import.meta.url));
const NAMES = [...new Set([...FIXTURES, ...Object.keys(VARIANTS)])];
const directoryOf = (name: string) => VARIANTS[name]?.() ?? makeCheckpoint(name);

const TOKENS = Array.from({ length: 40 }, (_, i) => (i * 37 + 11) % 256);

async function run({ program, checkpoint, sourceOf }: OpenedModel): Promise<Float32Array> {
  const backend = await wasm();
  const session = await backend.open(program, { cachePositions: 64 });
  await placeModel(plan(program, sourceOf, { type: null }), checkpoint, backend, session);
  return new LanguageModel(program, session, { cachePositions: 64 }).logits(TOKENS);
}

/** A program and its rotary tables, whose factors are binary32 in a file. */
function takeApart({ ropes, ...program }: Program) {
  return {
    program,
    magnitudes: ropes.map(({ magnitude }) => magnitude),
    frequencies: ropes.flatMap(({ frequencies }) => [...frequencies]),
  };
}

describe.each(NAMES)("%s", (name) => {
  const opened = directoryOf(name).then((directory) => openModel(directory));
  const file = opened.then((model) => toGguf(model));
  const again = file.then((bytes) => openModel(ggufDirectory(bytes), { gguf: "model.gguf" }));

  test("has the same program", async () => {
    const [a, b] = [takeApart((await opened).program), takeApart((await again).program)];
    expect(b.program).toEqual(a.program);
    for (const [i, value] of a.magnitudes.entries()) expect(b.magnitudes[i] / value).toBeCloseTo(1, 6);
    for (const [i, value] of a.frequencies.entries()) expect(b.frequencies[i] / value).toBeCloseTo(1, 6);
    expect(b.frequencies).toHaveLength(a.frequencies.length);
  });

  test("has the same tensors, and is written the same again", async () => {
    const [ours, theirs] = [await opened, await again];
    for (const weight of ours.program.weights) {
      const [a, b] = [ours.sourceOf(weight), theirs.sourceOf(weight)];
      const [from, to] = [await ours.checkpoint.read(a.name), await theirs.checkpoint.read(b.name)];
      if (a.type === b.type) expectSame(to, from);
      else {
        const dense = (type: typeof a.type, data: Uint8Array) =>
          widen({ type: type as "F32", shape: weight.shape, data });
        expect([b.type, weight.role]).toEqual(["F32", expect.stringMatching(/norm|bias|router|embedding/)]);
        expectSame(dense(b.type, to), dense(a.type, from));
      }
    }
    expectSame(await toGguf(theirs), await file);
  });

  test("has importance for every matrix under the names of the file", async () => {
    const { program } = await opened;
    const { tensors } = await openGguf(fromBytes(await file));
    const matrices = [...tensors.values()].filter(
      ({ name, shape }) => /\.weight$/.test(name) && shape.length > 1 && !/^(token|position)_/.test(name),
    );
    const entries = new Map(
      matrices.map(({ name, shape }, index): [string, ImatrixEntry] => {
        const counts = Array.from({ length: shape.length === 3 ? shape[0] : 1 }, () => 1);
        const columns = shape[shape.length - 1];
        const values = Array.from({ length: counts.length * columns }, (_, i) => 1 + index + i / columns / 8);
        return [name, { sums: Float32Array.from(values), counts }];
      }),
    );
    const importance = matchImportance({ format: "gguf", entries, datasets: [] }, program);
    const known = ggufArchitectureOf((await opened).config).tensors;
    const wanted = program.weights.filter(({ role }) => /^(linear|expert|head)$/.test(role));
    for (const { name, shape, tiedTo } of wanted) {
      const [match] = ggufNamesOf(known, name);
      if (tiedTo !== undefined && !entries.has(match.name)) continue;
      const start = (match.expert ?? 0) * shape[1];
      const { sums } = entries.get(match.name)!;
      expectSame(importance.get(name)!, sums.subarray(start, start + shape[1]));
    }
    const names = new Set(program.weights.map(({ name }) => name));
    expect([...importance.keys()].filter((name) => !names.has(name))).toEqual([]);
  });

  test("computes the same", async () => {
    const [a, b] = [await run(await opened), await run(await again)];
    expect(largestDifference(a, b)).toBeLessThan(1e-5);
    expect(a.every(Number.isFinite)).toBe(true);
  });
});

test.each([
  ["smollm3", { no_rope_layers: [1, 0] }, "no_rope_layers"],
  ["llama", { hidden_act: "gelu" }, "hidden_act"],
  ["qwen2", { use_sliding_window: true, sliding_window: 16, layer_types: null }, "use_sliding_window"],
  ["qwen2moe", { norm_topk_prob: true }, "norm_topk_prob"],
  ["qwen3moe", { norm_topk_prob: false }, "norm_topk_prob"],
  ["gemma2", { query_pre_attn_scalar: 100 }, "query_pre_attn_scalar"],
  ["gemma2", { attn_logit_softcapping: null }, "attn_logit_softcapping"],
  ["gemma3", { attn_logit_softcapping: 5 }, "attn_logit_softcapping"],
  ["gpt2", { scale_attn_by_inverse_layer_idx: true }, "scale_attn_by_inverse_layer_idx"],
  ["deepseekv3", { rope_interleave: false }, "rope_interleave"],
])("%s with %j is refused: a file cannot say it", async (name, changes, field) => {
  const opened = await openModel(await makeVariant(name, changes));
  const error = await toGguf(opened).catch((caught) => caught);
  expect(error).toMatchObject({ tag: "config/invalid", details: { field } });
});
