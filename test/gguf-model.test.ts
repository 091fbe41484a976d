/** Models in GGUF files: written, opened again, run, and quantized again. */

import { beforeAll, describe, expect, test } from "vitest";
import { wasm } from "../src/backends/wasm.js";
import { widen } from "../src/dense.js";
import { openGguf } from "../src/files/gguf.js";
import { fromBytes } from "../src/files/source.js";
import { type OpenedModel, openModel } from "../src/load.js";
import { LanguageModel } from "../src/model/language-model.js";
import { openDirectory } from "../src/node/directory.js";
import { placeModel } from "../src/place.js";
import { type PlanRequest, plan } from "../src/plan.js";
import { dequantize, quantize, TYPE_NAMES, TYPES } from "../src/quants/index.js";
import { makeCheckpoint } from "./fixtures/architecture.js";
import { expectSame, ggufDirectory, toGguf, withEmbeddings } from "./gguf-support.js";

const TOKENS = [1, 483, 810, 1667, 328, 416, 4095, 0, 9, 1024];
const BLOCK_TYPES = TYPE_NAMES.filter((type) => TYPES[type].ggml !== null);

/** Logits after quantizing as requested. */
async function run(opened: OpenedModel, request: Partial<PlanRequest> = {}, tokens = TOKENS) {
  const backend = await wasm();
  const session = await backend.open(opened.program, { cachePositions: 64 });
  const decided = plan(opened.program, opened.sourceOf, { type: null, ...request });
  const report = await placeModel(decided, opened.checkpoint, backend, session);
  const model = new LanguageModel(opened.program, session, { cachePositions: 64 });
  return { logits: await model.logits(tokens), report };
}

let mistral: OpenedModel;
beforeAll(async () => {
  mistral = await openModel(await openDirectory("models/tiny-mistral"));
});

describe("tiny-mistral", () => {
  test("has the same logits from GGUF, bit for bit, and the same tensors", async () => {
    const opened = await openModel(ggufDirectory(await toGguf(mistral)), { gguf: "model.gguf" });
    expect(opened.checkpoint.format).toBe("gguf");
    for (const weight of mistral.program.weights) {
      const [a, b] = [mistral.sourceOf(weight), opened.sourceOf(weight)];
      const theirs = await opened.checkpoint.read(b.name);
      if (a.type === b.type) expectSame(theirs, await mistral.checkpoint.read(a.name));
      else expect([weight.role, b.type]).toEqual(["norm", "F32"]);
    }
    const [first, second] = [await run(mistral), await run(opened)];
    expectSame(second.logits, first.logits);
    expect(opened.config.fields.values).toMatchObject({
      hidden_size: 256,
      rms_norm_eps: 1e-5,
      head_dim: 32,
      rope_parameters: { rope_type: "default", rope_theta: 10000 },
      tie_word_embeddings: false,
    });
  });

  test("Q8_0 is quantized again to Q4K, from what Q8_0 says", async () => {
    const bytes = await toGguf(mistral, { type: "Q8_0" });
    const opened = await openModel(ggufDirectory(bytes), { gguf: "model.gguf" });
    const { report } = await run(opened, { type: "Q4K" });
    const name = "model.layers.3.self_attn.q_proj.weight";
    const row = report.tensors.find(({ tensor }) => tensor === name);
    expect(row).toMatchObject({ type: "Q4K", algorithm: "ggml", source: { type: "Q8_0" } });
    expect(report.plan.totals.quantizedTensors).toBe(43);
    const weight = mistral.program.weights.find((w) => w.name === name)!;
    const { shape } = weight;
    const original = { type: "BF16" as const, shape, data: await mistral.checkpoint.read(name) };
    const q8 = quantize("Q8_0", widen(original), { shape });
    expectSame(await opened.checkpoint.read(name), q8.data);
    const again = await toGguf(opened, { type: "Q4K" });
    const file = await openGguf(fromBytes(again));
    const reopened = await openModel(ggufDirectory(again), { gguf: "model.gguf" });
    expect(file.tensors.get("blk.3.attn_q.weight")?.dtype).toBe("Q4_K");
    expectSame(await reopened.checkpoint.read(name), quantize("Q4K", dequantize(q8), { shape }).data);
  });

  test.each(BLOCK_TYPES)("%s of the same type is copied, and runs the same", async (type) => {
    const request = { type, ...withEmbeddings(type) };
    const bytes = await toGguf(mistral, request);
    const opened = await openModel(ggufDirectory(bytes), { gguf: "model.gguf" });
    expectSame(await toGguf(opened, request), bytes);
    expectSame(await toGguf(opened), bytes); // nothing asked for: stays as it is
    const tokens = TOKENS.slice(0, 3);
    const direct = await run(mistral, request, tokens);
    const kept = await run(opened, {}, tokens);
    const copied = await run(opened, { type }, tokens);
    expectSame(kept.logits, direct.logits);
    expectSame(copied.logits, direct.logits);
    const quantized = copied.report.tensors.filter((row) => row.type === type);
    expect(quantized).toHaveLength(44);
    expect(quantized.every((row) => row.algorithm === null)).toBe(true);
    expect(quantized[1].reason).toBe(`already ${type}: its bytes are copied`);
  });
});

test.each(["llama", "llama-tied", "mistral"])(
  "%s from GGUF computes what the checkpoint does",
  async (name) => {
    const opened = await openModel(await makeCheckpoint(name));
    const again = await openModel(ggufDirectory(await toGguf(opened)), { gguf: "model.gguf" });
    const tokens = [1, 5, 200, 77, 255, 0, 31];
    const [a, b] = [await run(opened, {}, tokens), await run(again, {}, tokens)];
    const most = a.logits.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b.logits[i])), 0);
    expect(most).toBeLessThan(name === "mistral" ? 1e-30 : 1e-5);
  },
);
