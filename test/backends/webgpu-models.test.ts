/** Models on a GPU: every architecture's logits, products within their bound, the same text as the reference. */

import { readdirSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { reference } from "../../src/backends/reference.js";
import { splitBackend } from "../../src/backends/split.js";
import { wasm } from "../../src/backends/wasm.js";
import { type WebgpuBackend, webgpu } from "../../src/backends/webgpu.js";
import type { GpuSession } from "../../src/backends/webgpu-session.js";
import { TextModelBuilder, type TopologyRule } from "../../src/index.js";
import { openModel } from "../../src/load.js";
import { openDirectory } from "../../src/node/directory.js";
import { placeModel } from "../../src/place.js";
import { plan } from "../../src/plan.js";
import { makeCheckpoint, readExpected } from "../fixtures/architecture.js";
import { compareProducts, haveGpu } from "../gpu.js";
import { bits, differingBits, largestDifference, openLanguageModel, placeFolder } from "../model/support.js";

const FIXTURES = readdirSync(new URL("../fixtures/architectures", import.meta.url));
const TOKENS = 9;
/** Between them they have every operation. */
const TOKEN_BY_TOKEN = ["deepseekv3", "gemma3", "gpt2", "phi3", "phi3.5moe"];

let opened: Promise<WebgpuBackend> | undefined;
const open = () => (opened ??= webgpu());

describe.skipIf(!haveGpu())("models on WebGPU", () => {
  afterAll(async () => (await opened)?.dispose());

  it.each(FIXTURES)("%s: logits to 1e-3, whole and in pieces, twice the same", async (name) => {
    const { inputIds } = await readExpected(name);
    const ids = inputIds.subarray(0, TOKENS);
    const directory = await makeCheckpoint(name);
    const wanted = await (await openLanguageModel(directory)).model.logits(ids);
    const { model } = await openLanguageModel(directory, { backend: await open(), cachePositions: 64 });
    for (const stepRows of [TOKENS, 4, ...(TOKEN_BY_TOKEN.includes(name) ? [1] : [])]) {
      const logits = await model.logits(ids, { stepRows });
      expect(largestDifference(logits, wanted)).toBeLessThan(1e-3);
      if (stepRows !== 4) continue;
      expect(differingBits(await model.logits(ids, { stepRows }), bits(logits))).toBe(0);
    }
    await model.dispose();
  });

  it.each([
    ["llama", "Q4K"],
    ["mistral", "Q8_0"],
    ["gpt2", "HQQ4"],
    ["mixtral", "Q5_1"],
  ] as const)("%s in %s: every product within 1e-6 of its terms", async (name, type) => {
    const backend = await open();
    const directory = await makeCheckpoint(name);
    const { model, session } = await openLanguageModel(directory, { backend, type, cachePositions: 32 });
    const { ops } = model.program;
    let products = 0;
    for (const [i, op] of ops.entries()) {
      if (op.kind !== "linear") continue;
      const [x, out] = await (session as GpuSession).inspect(BATCH, i + 1, [op.x, op.out]);
      const weights = await session.read(op.weight);
      const bias = op.bias === undefined ? null : await session.read(op.bias);
      const plain = bias ? withoutBias(out, new Float32Array(bias.data.buffer)) : out;
      const expected = await reference().matmul(weights, x);
      // A sum with a bias is rounded once more.
      const slack = bias ? 2e-7 * Math.max(...out.map(Math.abs)) : 0;
      const apart = compareProducts(plain, expected, weights, x);
      if (apart !== undefined && slack > 0) expect(largestDifference(plain, expected)).toBeLessThan(slack);
      else expect(apart).toBeUndefined();
      products++;
    }
    expect(products).toBeGreaterThan(5);
    await model.dispose();
  });

  it.each(["tiny-mistral", "tiny-mixtral"])("%s in Q4K continues as on the reference", async (name) => {
    const { greedy } = JSON.parse(readFileSync(`models/${name}/reference.json`, "utf8"));
    const prompt = greedy.ids.slice(0, 6);
    const onCpu = await wasm();
    const texts = [];
    for (const backend of [onCpu, await open()]) {
      const { model } = await placeFolder(`models/${name}`, backend, "Q4K");
      texts.push(await model.generate(prompt, { maxTokens: 8 }));
      await model.dispose();
    }
    expect(texts[1]).toEqual(texts[0]);
    onCpu.dispose();
  });

  it("layers on the CPU and on the GPU, as the topology says", async () => {
    const directory = await makeCheckpoint("llama");
    const ids = (await readExpected("llama")).inputIds.subarray(0, 4);
    const wanted = await (await openLanguageModel(directory)).model.logits(ids);
    const gpu = await open();
    const onCpu = await wasm();
    const { program, checkpoint } = await openModel(directory);
    await checkpoint.close();
    const backend = splitBackend(onCpu, gpu, (weight) => program.weights[weight].layer === 1);
    const { model } = await openLanguageModel(directory, { backend, cachePositions: 32 });
    for (const stepRows of [4, 1]) {
      expect(largestDifference(await model.logits(ids, { stepRows }), wanted)).toBeLessThan(1e-3);
    }
    await model.dispose();
    onCpu.dispose();
  });

  it("the builder puts layers where devices and topologies say, weights of every type from worker threads among them", async () => {
    const prompt = "The database connection";
    const build = (change: (builder: TextModelBuilder) => TextModelBuilder) =>
      change(new TextModelBuilder("models/tiny-mistral").withIsq("Q8_0")).build();
    const rules = (device: "cpu" | "webgpu"): TopologyRule[] => [
      { layers: { start: 0, end: 2 }, isq: "Q6K", device },
      { layers: { start: 2, end: 3 }, isq: "HQQ4", device },
      { layers: { start: 3, end: 6 }, isq: "Q4K", device: "cpu" },
    ];
    const texts = [];
    for (const device of ["cpu", "webgpu"] as const) {
      const model = await build((builder) => builder.withTopology(rules(device)));
      texts.push((await model.generate({ prompt, maxTokens: 4 })).text);
      await model.dispose();
    }
    expect(texts[1]).toBe(texts[0]);
    const hqq = (builder: TextModelBuilder) => builder.withIsq("HQQ4");
    const whole = await build((builder) => hqq(builder).withDevice("webgpu"));
    const half = await build((builder) => hqq(builder).withDevice("webgpu").withDeviceLayers("3"));
    const onCpu = await build(hqq);
    const models = [whole, half, onCpu];
    const [onGpu, onBoth, expected] = await Promise.all(models.map((model) => model.logits([1, 483, 810])));
    expect(largestDifference(onGpu!, expected!)).toBeLessThan(1e-3);
    expect(largestDifference(onBoth!, expected!)).toBeLessThan(1e-3);
    expect(onBoth).not.toEqual(onGpu); // three layers add in the CPU's order
    for (const model of models) await model.dispose();
  });

  it("memory on the GPU is at most the quantized model and one tensor while weights are placed", async () => {
    const backend = await webgpu({ pieceElements: 4096 });
    const before = backend.memory.byteLength;
    const { program, checkpoint, sourceOf } = await openModel(await openDirectory("models/tiny-mistral"));
    const session = await backend.open(program, { cachePositions: 32 });
    const decided = plan(program, sourceOf, { type: "Q6K" });
    await placeModel(decided, checkpoint, await wasm(), session);
    await checkpoint.close();
    const { byteLength, peakByteLength } = backend.memory;
    const sizes = await Promise.all(
      program.weights.map(async (_, i) => (await session.read(i)).data.byteLength),
    );
    const model = sizes.reduce((sum, size) => sum + Math.ceil(size / 256) * 256, 0);
    const largest = Math.max(...sizes);
    expect(byteLength - before).toBeGreaterThanOrEqual(model);
    expect(peakByteLength).toBeLessThanOrEqual(before + model + largest + SMALL);
    session.dispose();
    expect(backend.memory.byteLength).toBeLessThanOrEqual(before + 2 * largest + SMALL);
    await backend.dispose();
  });
});

/** Uniforms, and the bounds that buffers are rounded to. */
const SMALL = 2 ** 16;

const BATCH = {
  tokens: Int32Array.of(3, 17, 5),
  positions: Int32Array.of(0, 1, 2),
  sequences: Int32Array.of(0, 0, 0),
  blockTables: [Int32Array.of(0)],
  outputs: Int32Array.of(1, 2),
};

const withoutBias = (sums: Float32Array, bias: Float32Array) =>
  sums.map((sum, i) => sum - bias[i % bias.length]);
