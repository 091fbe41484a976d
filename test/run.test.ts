/** The front door of the library: build, run, measure and re-quantize the trained model and small fixtures. */

import { describe, expect, test } from "vitest";
import type { SafetensorsTensor } from "../src/files/safetensors.js";
import { TextModelBuilder } from "../src/index.js";
import { dequantize, quantize, TYPE_NAMES } from "../src/quants/index.js";
import { tinyModel } from "./fixtures/tiny-model.js";

const FOLDER = "models/tiny-mistral";
const TOKENS = [1, 483, 810, 1667, 328, 416];

describe("tiny-mistral", () => {
  test("Q4K: every tensor is what quantize() makes of its source; text, perplexity, re-ISQ", async () => {
    const lines: string[] = [];
    const model = await new TextModelBuilder(FOLDER)
      .withIsq("q4_k")
      .withLogging((line) => lines.push(line))
      .build();
    expect(lines.join("\n")).toMatch(/43 of 57 tensors to Q4K/);
    const before = await model.logits(TOKENS);
    expect(before).toHaveLength(TOKENS.length * model.vocabulary);

    let streamed = "";
    for await (const piece of model.stream({ prompt: "The database connection", maxTokens: 8 }))
      streamed += piece.text;
    const { text, tokens } = await model.generate({ prompt: "The database connection", maxTokens: 8 });
    expect([streamed, tokens.length]).toEqual([text, 8]);

    const report = await model.reIsq("Q8_0");
    expect(report.tensors).toHaveLength(43);
    expect(report.tensors.every((row) => row.type === "Q8_0")).toBe(true);
    const fresh = await new TextModelBuilder(FOLDER).withIsq("Q8_0").build();
    const after = await model.logits(TOKENS);
    expect(after).toEqual(await fresh.logits(TOKENS));
    expect(after).not.toEqual(before);
    const continued = await model.generate({ prompt: "The database connection", maxTokens: 8 });
    expect(continued.text).toBe(" is not\ninvoked by the");
    await fresh.dispose();
    await model.dispose();
    await expect(model.logits(TOKENS)).rejects.toMatchObject({ tag: "backend/disposed" });
  });

  test.each(["reference", "wasm", "threads"] as const)(
    "super-blocks that importance of zero leaves without a scale are encoded without it, and counted: %s",
    async (backend) => {
      const name = "model.layers.0.self_attn.q_proj.weight";
      const importance = new Float32Array(256).fill(1).fill(0, 16, 32);
      const lines: string[] = [];
      const model = await new TextModelBuilder(FOLDER)
        .withTopology([{ pattern: /layers\.0\.self_attn\.q_proj/, isq: "Q3K" }])
        .withAlgorithm("mistralrs")
        .withImportance(new Map([[name, importance]]))
        .withBackend(backend)
        .withLogging((line) => lines.push(line))
        .build();
      const row = model.report.tensors.find(({ tensor }) => tensor === name)!;
      expect(row.importance).toBe("used");
      expect(row.reencodedBlocks).toBe(256);
      expect(lines.at(-1)).toMatch(/; 256 super-blocks encoded again without their importance/);
      expect((await model.logits(TOKENS)).every(Number.isFinite)).toBe(true);
      await model.dispose();
    },
  );

  test("a conversation goes through the chat template", async () => {
    const model = await new TextModelBuilder(FOLDER).build();
    const messages = [{ role: "user", content: "The database connection" }];
    const asked = await model.generate({ messages, maxTokens: 4 });
    const spelled = await model.generate({
      tokens: model.tokenizer.encode("<s>[INST] The database connection [/INST]", {
        addSpecialTokens: false,
      }),
      maxTokens: 4,
    });
    expect(asked.tokens).toEqual(spelled.tokens);
    await model.dispose();
  });
});

describe("every type", () => {
  test.each(TYPE_NAMES)("%s: quantizes, runs, measures; sampling is repeatable", async (type) => {
    const model = await new TextModelBuilder(tinyModel()).withIsq(type).build({ measureError: true });
    const head = model.report.tensors.find((row) => row.tensor === "lm_head.weight");
    expect(head?.error?.snr).toBeGreaterThan(5);
    expect(head?.type).toBe(model.plan.rows.find((row) => row.tensor === "lm_head.weight")?.type);
    const { tokenWeighted, meanOfChunks } = await model.perplexity("The database connection is not invoked.");
    expect(tokenWeighted).toBeGreaterThan(1);
    expect(meanOfChunks).toBeCloseTo(tokenWeighted, 9);
    const sampled = { prompt: "The", temperature: 1, seed: 5, maxTokens: 5 };
    expect(await model.generate(sampled)).toEqual(await model.generate(sampled));
    await model.dispose();
  });

  test("the logits are those of the decoded weights, up to the quantized activations", async () => {
    const decoded = tinyModel((tensors) =>
      tensors.map((tensor) => {
        if (!/proj|lm_head/.test(tensor.name)) return tensor;
        const values = new Float32Array(tensor.data.buffer);
        const data = new Uint8Array(dequantize(quantize("Q8_0", values, { shape: tensor.shape })).buffer);
        return { ...tensor, data };
      }),
    );
    const plain = await new TextModelBuilder(decoded).build();
    const quantized = await new TextModelBuilder(tinyModel()).withIsq("Q8_0").build();
    const [a, b] = [await plain.logits([1, 5, 9]), await quantized.logits([1, 5, 9])];
    const worst = a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
    const largest = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(worst / largest).toBeLessThan(0.03);
    expect(worst).toBeGreaterThan(0);
  });
});

describe("texts", () => {
  const PROMPT = { prompt: "The database connection is", maxTokens: 24 } as const;
  const SAMPLED = { ...PROMPT, temperature: 1, topK: 100, topP: 0.95, minP: 0.001, seed: 11, logprobs: 2 };

  test("the same seed gives the same text and figures, whatever runs beside it", async () => {
    const builder = () => new TextModelBuilder(FOLDER).withIsq("Q4K").withBackend("wasm");
    const alone = await builder().build();
    const expected = await alone.generate(SAMPLED);
    expect(expected.logprobs).toHaveLength(expected.tokens.length);
    expect(await alone.generate({ ...SAMPLED, seed: 12 })).not.toEqual(expected);
    await alone.dispose();
    const model = await builder().withPagedAttention({ blocks: 40 }).withMaxSequences(3).build();
    expect(model.load).toEqual({
      running: 0,
      waiting: 0,
      maxSequences: 3,
      cacheBlocks: 40,
      freeCacheBlocks: 40,
    });
    const requests = [
      SAMPLED,
      { ...SAMPLED, prompt: "A court", frequencyPenalty: 1 },
      { ...SAMPLED, prompt: "The", repetitionPenalty: 1.3 },
      SAMPLED,
    ];
    const together = await Promise.all(requests.map((request) => model.generate(request)));
    expect([together[0], together[3]]).toEqual([expected, expected]);
    const text = model.generate(SAMPLED);
    const scored = model.logits(TOKENS);
    expect(await text).toEqual(expected);
    await scored;
    await model.dispose();
  });

  test("end at a stop string, an end token or the limit, and say which", async () => {
    const model = await new TextModelBuilder(FOLDER).withIsq("Q8_0").withBackend("wasm").build();
    const free = await model.generate(PROMPT);
    expect([free.finish, free.tokens.length]).toEqual(["length", 24]);
    const word = free.text.split(/\s+/)[4];
    const before = free.text.slice(0, free.text.indexOf(word));
    const stopped = await model.generate({ ...PROMPT, stop: ["never there", word] });
    expect(stopped).toMatchObject({ text: before, finish: "stop" });
    const pieces = [];
    for await (const piece of model.stream({ ...PROMPT, stop: word })) pieces.push(piece);
    expect(pieces.map(({ text }) => text).join("")).toBe(before);
    expect(pieces.filter(({ finish }) => finish)).toEqual([{ token: -1, text: "", finish: "stop" }]);
    expect(model.load.running).toBe(0);
    // The head's first choice is banned: another text.
    const banned = await model.generate({ ...PROMPT, logitBias: { [free.tokens[0]]: -100 } });
    expect(banned.tokens[0]).not.toBe(free.tokens[0]);
    const ended = await model.generate({ ...PROMPT, logitBias: { 2: 1000 } });
    expect(ended).toMatchObject({ text: "", tokens: [], finish: "stop" });
    await expect(model.generate({ ...PROMPT, logitBias: { 4096: 1 } })).rejects.toMatchObject({
      tag: "prompt/token",
    });
    await expect(model.generate({ ...PROMPT, logprobs: -1 })).rejects.toMatchObject({
      tag: "option/invalid",
    });
    await expect(model.generate({ ...PROMPT, stop: "" })).rejects.toMatchObject({ tag: "option/invalid" });
    await model.dispose();
  });
});

describe("bad input", () => {
  const build = (directory: ReturnType<typeof tinyModel>, type = "Q8_0") =>
    new TextModelBuilder(directory).withIsq(type).build();
  const patch = (name: string, change: (tensor: SafetensorsTensor) => SafetensorsTensor | null) =>
    tinyModel((tensors) =>
      tensors.flatMap((tensor) => (tensor.name === name ? (change(tensor) ?? []) : tensor)),
    );
  const Q = "model.layers.0.self_attn.q_proj.weight";

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    "a weight of %d",
    async (bad) => {
      const spoiled = patch(Q, (tensor) => {
        const values = new Float32Array(tensor.data.slice().buffer);
        values[77] = bad;
        return { ...tensor, data: new Uint8Array(values.buffer) };
      });
      await expect(build(spoiled)).rejects.toMatchObject({
        tag: "values/non-finite",
        details: { tensor: Q, index: 77 },
      });
    },
  );

  test("a missing tensor and one of another shape, both named with what was wanted", async () => {
    await expect(build(patch(Q, () => null))).rejects.toMatchObject({
      tag: "tensor/missing",
      details: { tensor: Q },
    });
    await expect(build(patch(Q, (t) => ({ ...t, shape: [32, 128] })))).rejects.toMatchObject({
      tag: "tensor/shape",
      details: { tensor: Q, value: [32, 128], limit: [64, 64] },
    });
  });

  test("weights of a dtype that is none", async () => {
    await expect(build(patch(Q, (t) => ({ ...t, dtype: "I32" })))).rejects.toMatchObject({
      tag: "safetensors/dtype",
      details: { tensor: Q, value: "I32" },
    });
  });

  test.each([
    ["config.json", "config/missing"],
    ["tokenizer.json", "tokenizer/missing"],
    ["model.safetensors", "source/open"],
  ])("no %s", async (file, tag) => {
    await expect(build(tinyModel((t) => t, [file]))).rejects.toMatchObject({ tag });
  });

  test("unknown type, architecture and algorithm; options that cannot be honoured", async () => {
    const builder = () => new TextModelBuilder(tinyModel());
    expect(() => builder().withIsq("Q9")).toThrowError(expect.objectContaining({ tag: "type/unknown" }));
    expect(() => builder().withAlgorithm("x" as "default")).toThrowError(
      expect.objectContaining({ tag: "option/invalid" }),
    );
    const refusals: [string, () => unknown][] = [
      ["option/unsupported", () => builder().withPagedAttention({ blockSize: 16 })],
      ["option/conflict", () => builder().withPagedAttention({ blocks: 4, byteLength: 1e6 })],
      ["option/conflict", () => builder().withContextLength(64).withPagedAttention()],
      ["option/conflict", () => builder().withPagedAttention().withContextLength(64)],
      ["option/invalid", () => builder().withPagedAttention({ blocks: 0 })],
      ["option/invalid", () => builder().withContextLength(0)],
      ["option/invalid", () => builder().withMaxSequences(0)],
      ["option/invalid", () => builder().withMaxSequences(1e9)],
      ["option/invalid", () => builder().withPromptBatchSize(0.5)],
    ];
    for (const [tag, refuse] of refusals) expect(refuse).toThrowError(expect.objectContaining({ tag }));
    const tooSmall = builder().withPagedAttention({ byteLength: 1 }).build();
    await expect(tooSmall).rejects.toMatchObject({ tag: "option/invalid" });
    await expect(builder().withArchitecture("nope").build()).rejects.toMatchObject({
      tag: "architecture/unknown",
    });
  });

  test("prompts", async () => {
    const model = await build(tinyModel());
    await expect(model.logits([])).rejects.toMatchObject({ tag: "prompt/empty" });
    await expect(model.logits([4096])).rejects.toMatchObject({ tag: "prompt/token" });
    await expect(model.logits(new Array(65).fill(1))).rejects.toMatchObject({ tag: "prompt/length" });
    await expect(model.generate({ prompt: "a", signal: AbortSignal.abort() })).rejects.toMatchObject({
      tag: "aborted",
    });
    await expect(model.reIsq("Q9")).rejects.toMatchObject({ tag: "type/unknown" });
  });

  test("loading stops between tensors when aborted", async () => {
    const abort = new AbortController();
    const building = new TextModelBuilder(tinyModel()).withIsq("Q8_0").build({
      signal: abort.signal,
      onProgress: ({ done }) => done === 3 && abort.abort(),
    });
    await expect(building).rejects.toMatchObject({ tag: "aborted" });
  });
});
