/** Models in UQFF files: written, opened again, run, and written again; both generations; what reports say. */

import { beforeAll, describe, expect, test } from "vitest";
import type { Tensor } from "../src/backends/backend.js";
import type { Program, WeightSpec } from "../src/backends/program.js";
import { wasm } from "../src/backends/wasm.js";
import { openSafetensors } from "../src/files/safetensors.js";
import { fromBytes } from "../src/files/source.js";
import { openUqff } from "../src/files/uqff.js";
import { type OpenedModel, openModel } from "../src/load.js";
import { LanguageModel } from "../src/model/language-model.js";
import { openDirectory } from "../src/node/directory.js";
import { placeModel } from "../src/place.js";
import { type PlanRequest, plan } from "../src/plan.js";
import { TYPE_NAMES } from "../src/quants/index.js";
import { planUqff } from "../src/uqff-export.js";
import { makeCheckpoint } from "./fixtures/architecture.js";
import { expectSame, withEmbeddings } from "./gguf-support.js";
import { type Files, planOf, tensorsOf, toNumbered, toUqff, uqffDirectory } from "./uqff-support.js";

let llama: OpenedModel;
beforeAll(async () => {
  llama = await openModel(await makeCheckpoint("llama"));
});

const open = async (opened: OpenedModel, files: Files, uqff = "m-0.uqff") =>
  openModel(await uqffDirectory(opened, files), { uqff });

function expectSameTensors(found: ReadonlyMap<string, Tensor>, wanted: ReadonlyMap<string, Tensor>): void {
  expect([...found.keys()]).toEqual([...wanted.keys()]);
  for (const [name, { data, ...tensor }] of wanted) {
    const { data: theirs, ...rest } = found.get(name)!;
    // Which encoder filled the blocks is no part of the format.
    const withoutMaker = {
      ...rest,
      ...("algorithm" in rest && "algorithm" in tensor && { algorithm: tensor.algorithm }),
    };
    expect(withoutMaker, name).toEqual(tensor);
    expectSame(theirs, data);
  }
}

async function logits(opened: OpenedModel, request: Partial<PlanRequest> = {}): Promise<Float32Array> {
  const session = await (await wasm()).open(opened.program, { cachePositions: 64 });
  await placeModel(planOf(opened, request), opened.checkpoint, await wasm(), session);
  return new LanguageModel(opened.program, session, { cachePositions: 64 }).logits([
    1, 5, 200, 77, 255, 0, 31,
  ]);
}

describe.each(TYPE_NAMES)("%s", (type) => {
  const request = { type, ...withEmbeddings(type) };

  test("is read as it was written, and written again the same", async () => {
    const files = await toUqff(llama, request);
    const again = await open(llama, files);
    expect(again.checkpoint.format).toBe("uqff");
    expectSameTensors(await tensorsOf(again), await tensorsOf(llama, request));
    const copied = await toUqff(again);
    expect(Object.keys(copied)).toEqual(Object.keys(files));
    for (const [name, bytes] of Object.entries(files)) expectSame(copied[name], bytes);
  });

  test("is read from numbered blobs, and written from them the same", async () => {
    const plain = { type };
    const opened = await open(llama, await toNumbered(llama, plain), "m.uqff");
    expectSameTensors(await tensorsOf(opened), await tensorsOf(llama, plain));
    const [ours, theirs] = [await toUqff(llama, plain), await toUqff(opened)];
    for (const [name, bytes] of Object.entries(ours)) expectSame(theirs[name], bytes);
  });
});

test("runs as the model that it was made of, and is quantized to another type", async () => {
  for (const type of ["Q4K", "HQQ8", "FP8"] as const) {
    const opened = await open(llama, await toUqff(llama, { type }));
    expectSame(await logits(opened), await logits(llama, { type }));
  }
  const opened = await open(llama, await toUqff(llama, { type: "Q8_0" }));
  const changed = planOf(opened, { type: "Q4_0" }).rows.find(({ tensor }) => tensor === "lm_head.weight");
  expect(changed).toMatchObject({ type: "Q4_0", algorithm: "ggml", source: { type: "Q8_0" } });
  expect(await logits(opened, { type: "Q4_0" })).toHaveLength(7 * opened.program.vocabulary);
});

test("a tied head becomes a layer of its own, or none", async () => {
  const tied = await openModel(await makeCheckpoint("llama-tied"));
  const files = await toUqff(tied, { type: "Q5_0" });
  const { layers } = await openUqff([fromBytes(files["m-0.uqff"], "m")]);
  expect(layers.get("lm_head")?.type).toBe("Q5_0");
  expectSame(await logits(await open(tied, files)), await logits(tied, { type: "Q5_0" }));
  const kept = await toUqff(tied, { type: "Q5_0", topology: [{ pattern: /lm_head/, isq: "none" }] });
  const without = await openUqff([fromBytes(kept["m-0.uqff"], "m")]);
  expect(without.layers.has("lm_head")).toBe(false);
  expect((await open(tied, kept)).program.weights.length).toBe(tied.program.weights.length);
});

test("shards hold whole layers and no more than they may; any size gives the same tensors", async () => {
  const request = { type: "Q8_0" } as const;
  const wanted = await tensorsOf(llama, request);
  for (const shardByteLength of [1, 20_000, 60_000]) {
    const files = await toUqff(llama, { ...request, shardByteLength });
    const shards = Object.keys(files).filter((name) => name.endsWith(".uqff"));
    expect(shards).toEqual(shards.map((_, i) => `m-${i}.uqff`));
    expect(shards.length).toBeGreaterThan(shardByteLength === 1 ? 14 : 2);
    for (const name of shards) {
      const { layers } = await openUqff([fromBytes(files[name], name)]);
      const bytes = [...layers.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
      expect(layers.size === 1 || bytes <= shardByteLength).toBe(true);
    }
    expectSameTensors(await tensorsOf(await open(llama, files)), wanted);
    const { "m-1.uqff": _, ...incomplete } = files;
    await expect(open(llama, incomplete)).rejects.toMatchObject({ tag: "tensor/missing" });
  }
});

test("a layer that is left unquantized is one all the same, an embedding with a type becomes one", async () => {
  const topology = [
    { pattern: /layers\.0\.mlp\.up_proj/, isq: "none" },
    { pattern: /embed_tokens/, isq: "Q6K" },
  ] as const;
  const decided = planOf(llama, { type: "Q4K", topology });
  const { output, shards, residual } = planUqff(decided, { stem: "m" });
  const bytes = decided.rows.reduce((sum, { byteLength }) => sum + byteLength, 0);
  expect([...shards, residual].reduce((sum, { file }) => sum + file.byteLength, 0)).toBeGreaterThan(bytes);
  expect(output.layers).toBe(output.layer_details.length);
  expect(Object.values(output.actual_counts).reduce((a, b) => a + b)).toBe(output.layers);
  const detail = (module: string) => output.layer_details.find((one) => one.module === module);
  expect(detail("model.layers.0.mlp.up_proj")).toMatchObject({ default_target: "q4k", stored: "unquant" });
  expect(detail("model.embed_tokens")).toMatchObject({ resolved_target: "q6k" });
  expect(output.fallback_count).toBe(0);
  const opened = await open(llama, await toUqff(llama, { type: "Q4K", topology }));
  expect(opened.checkpoint.tensors.get("model.layers.0.mlp.up_proj.weight")?.dtype).toBe("BF16");
});

test("the report tells of fallbacks, and experts of one type are stacked", () => {
  const experts = [0, 1].flatMap((e) => ["gate", "up", "down"].map((part) => `experts.${e}.${part}_proj`));
  const names = ["self_attn.q_proj", "self_attn.o_proj", ...experts];
  const weights = names.map((name): WeightSpec => {
    const shape = name.endsWith("o_proj") ? [32, 288] : name.endsWith("down_proj") ? [4, 40] : [32, 256];
    return { name: `model.layers.0.${name}.weight`, role: "linear", layer: 0, shape };
  });
  const sourceOf = ({ name, shape }: WeightSpec) => ({ name, type: "BF16" as const, shape });
  const topology = [{ pattern: /experts\.1\.gate/, isq: "Q6K" }] as const;
  const decided = plan({ weights } as unknown as Program, sourceOf, { type: "Q4K", topology });
  const { output } = planUqff(decided, { stem: "m" });
  expect(output.fallbacks).toEqual([
    {
      module: "model.layers.0.experts.down_proj",
      from: "q4k",
      to: "unquant",
      shape: [2, 4, 40],
      reason: "skipped: a row of 40 is not a multiple of 32 (Q4_1)",
    },
    {
      module: "model.layers.0.self_attn.o_proj",
      from: "q4k",
      to: "q4_1",
      shape: [32, 288],
      reason: "Q4K → Q4_1: a row of 288 is not a multiple of 256",
    },
  ]);
  expect(output.layer_details.map(({ module, stored, shape }) => [module, stored, shape])).toEqual([
    ["model.layers.0.experts.0.gate_proj", "q4k", [32, 256]], // of unlike types
    ["model.layers.0.experts.1.gate_proj", "q6k", [32, 256]],
    ["model.layers.0.experts.down_proj", "unquant", [2, 4, 40]],
    ["model.layers.0.experts.up_proj", "q4k", [2, 32, 256]],
    ["model.layers.0.self_attn.o_proj", "q4_1", [32, 288]],
    ["model.layers.0.self_attn.q_proj", "q4k", [32, 256]],
  ]);
});

test("what a file of quantized layers cannot be", async () => {
  const nothing = () => planUqff(planOf(llama), { stem: "m" });
  expect(nothing).toThrow(expect.objectContaining({ tag: "plan/nothing" }));
  const rows = planOf(llama, { type: "HQQ4" }).rows.map((row) => ({ ...row, algorithm: "hqq" as const }));
  const other = () => planUqff({ ...planOf(llama, { type: "HQQ4" }), rows }, { stem: "m" });
  expect(other).toThrow(expect.objectContaining({ tag: "uqff/type" }));
});

test("numbered layers that are not those of the model are refused", async () => {
  const files = await toNumbered(llama, { type: "Q4_0" });
  const other = await openModel(await openDirectory("models/tiny-mistral"));
  await expect(open(other, files, "m.uqff")).rejects.toMatchObject({ tag: "uqff/layers" });
  const { tensors } = await openSafetensors(fromBytes(files["m.uqff"], "m"));
  expect([...tensors.keys()].every((name) => /^\d+$/.test(name))).toBe(true);
});
