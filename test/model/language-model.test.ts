import { describe, expect, test } from "vitest";
import { CACHE_BLOCK } from "../../src/backends/program.js";
import { type ErrorTag, isIsqError } from "../../src/errors.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { createSampler } from "../../src/model/sampler.js";
import type { IsqType } from "../../src/quants/table.js";
import { makeCheckpoint } from "../fixtures/architecture.js";
import { bits, openLanguageModel, relativeError } from "./support.js";

const opened = await openLanguageModel(await makeCheckpoint("mistral"));
const { model } = opened;
const PROMPT = [1, 17, 99, 4];

function tagOf(run: () => Promise<unknown>): Promise<ErrorTag | string> {
  return run().then(
    () => "none",
    (error) => (isIsqError(error) ? error.tag : String(error)),
  );
}

describe("prompts", () => {
  const cases: [string, number[], ErrorTag][] = [
    ["empty", [], "prompt/empty"],
    ["a token beyond the vocabulary", [1, 256], "prompt/token"],
    ["a negative token", [-1], "prompt/token"],
    ["half a token", [1.5], "prompt/token"],
    ["not a number", [Number.NaN], "prompt/token"],
    ["longer than the context", new Array(513).fill(1), "prompt/length"],
  ];
  test.each(cases)("%s: refused", async (_, tokens, tag) => {
    expect(await tagOf(() => model.logits(tokens))).toBe(tag);
    expect(await tagOf(() => model.generate(tokens, { maxTokens: 1 }))).toBe(tag);
  });

  test("a context that fills up ends the text", async () => {
    const tokens = await model.generate(new Array(510).fill(3), { maxTokens: 100 });
    expect(tokens).toHaveLength(3); // two more positions, and the token after the last one
  });

  test("a cache that is too small is an error that names its room, and is given back", async () => {
    const small = await openLanguageModel(await makeCheckpoint("mistral"), {
      cachePositions: 2 * CACHE_BLOCK,
    });
    const long = new Array(2 * CACHE_BLOCK + 1).fill(5);
    expect(await tagOf(() => small.model.logits(long))).toBe("prompt/length");
    expect(await small.model.logits(long.slice(1))).toHaveLength(2 * CACHE_BLOCK * 256);
  });
});

describe("generation", () => {
  test("stops at end tokens, which are not part of the text", async () => {
    const all = await model.generate(PROMPT, { maxTokens: 8 });
    const end = all[3];
    expect(await model.generate(PROMPT, { maxTokens: 8, endTokens: [end] })).toEqual(
      all.slice(0, all.indexOf(end)),
    );
    expect(await model.generate(PROMPT, { maxTokens: 0 })).toEqual([]);
    expect(await tagOf(() => model.generate(PROMPT, { maxTokens: -1 }))).toBe("option/invalid");
  });

  test("gives the same text for the same seed", async () => {
    const draw = (seed: number) => {
      const sampler = createSampler({ temperature: 1, topK: 40, seed });
      return model.generate(PROMPT, { maxTokens: 24, sampler });
    };
    expect(await draw(7)).toEqual(await draw(7));
    expect(await draw(7)).not.toEqual(await draw(8));
  });

  test("texts that run at the same time do not disturb each other", async () => {
    const prompts = [PROMPT, [9, 8, 7], new Array(40).fill(11)];
    const alone: number[][] = [];
    for (const prompt of prompts) alone.push(await model.generate(prompt, { maxTokens: 40 }));
    const together = await Promise.all(prompts.map((prompt) => model.generate(prompt, { maxTokens: 40 })));
    expect(together).toEqual(alone);
  });

  test("can be aborted, before and between steps, and gives its cache back", async () => {
    const aborted = AbortSignal.abort();
    expect(await tagOf(() => model.logits(PROMPT, { signal: aborted }))).toBe("aborted");
    const controller = new AbortController();
    const run = async () => {
      for await (const _ of model.stream(PROMPT, { maxTokens: 100, signal: controller.signal }))
        controller.abort();
    };
    expect(await tagOf(run)).toBe("aborted");
    for (let round = 0; round < 40; round++) {
      for await (const _ of model.stream(PROMPT, { maxTokens: 100 })) break;
    }
    expect(await model.logits(new Array(512).fill(1))).toHaveLength(512 * 256);
  });
});

describe("a batch of several sequences", () => {
  test("gives each row the bits it has alone, whatever blocks it uses", async () => {
    const { model: fresh, session } = await openLanguageModel(await makeCheckpoint("mistral"));
    const a = [5, 6, 7, 8];
    const b = [200, 100, 50];
    const rows = a.length + b.length;
    const logits = await session.run({
      tokens: Int32Array.of(5, 200, 6, 7, 100, 8, 50),
      positions: Int32Array.of(0, 0, 1, 2, 1, 3, 2),
      sequences: Int32Array.of(0, 1, 0, 0, 1, 0, 1),
      blockTables: [Int32Array.of(3), Int32Array.of(1)],
      outputs: Int32Array.from({ length: rows }, (_, row) => row),
    });
    const width = fresh.program.vocabulary;
    const pick = (list: number[]) =>
      list.flatMap((row) => [...bits(logits.subarray(row * width, (row + 1) * width))]);
    expect(pick([0, 2, 3, 5])).toEqual([...bits(await model.logits(a))]);
    expect(pick([1, 4, 6])).toEqual([...bits(await model.logits(b))]);
  });
});

describe("weights", () => {
  const tokens = Array.from({ length: 12 }, (_, i) => (i * 37) % 256);
  const open = async (type: IsqType, decoded = false) =>
    (await openLanguageModel(await makeCheckpoint("llama"), { type, decoded })).model;

  test.each(["HQQ4", "FP8"] as const)("of type %s: the bits of the decoded weights", async (type) => {
    const expected = await (await open(type, true)).logits(tokens);
    const quantized = await open(type);
    for (const stepRows of [5, 12]) {
      expect(bits(await quantized.logits(tokens, { stepRows }))).toEqual(bits(expected));
    }
  });

  // Activations have 8 bits: steps of 1/127 of the largest of 32, or of 256 for the K types, whose error is twice as large.
  test.each([
    ["Q4K", 0.1],
    ["Q5_1", 0.05],
    ["Q8_0", 0.05],
  ] as const)(
    "of type %s: the decoded weights but for the rounding of activations, the same bits in chunks",
    async (type, limit) => {
      const quantized = await open(type);
      const logits = await quantized.logits(tokens);
      expect(bits(await quantized.logits(tokens, { stepRows: 5 }))).toEqual(bits(logits));
      const error = relativeError(logits, await (await open(type, true)).logits(tokens));
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(limit);
    },
  );

  test("are swapped between steps; a running text goes on with the new ones", async () => {
    const { model: own } = await openLanguageModel(await makeCheckpoint("llama"));
    const head = own.program.weights.findIndex(({ role }) => role === "head");
    const { shape } = own.program.weights[head];
    const zeros = { type: "F32" as const, shape, data: new Uint8Array(4 * shape[0] * shape[1]) };
    const tokens: number[] = [];
    for await (const token of own.stream(PROMPT, { maxTokens: 7 })) {
      tokens.push(token);
      if (tokens.length === 3) await own.between((session) => session.place(head, zeros));
    }
    // One token is made ahead of the reader.
    expect(tokens.slice(4)).toEqual([0, 0, 0]);
  });

  test("of another shape, of the wrong length or missing are refused by name", async () => {
    const { program } = model;
    const session = opened.session;
    const place = async (shape: number[], bytes: number) =>
      session.place(0, { type: "BF16", shape, data: new Uint8Array(bytes) });
    expect(await tagOf(() => place([256, 255], 2))).toBe("tensor/shape");
    expect(await tagOf(() => place([256, 256], 2))).toBe("data/length");
    const { reference } = await import("../../src/backends/reference.js");
    const bare = await reference().open(program, { cachePositions: 32 });
    const unplaced = new LanguageModel(program, bare, { cachePositions: 32 });
    expect(await tagOf(() => unplaced.logits(PROMPT))).toBe("tensor/missing");
    await unplaced.dispose();
    expect(await tagOf(() => unplaced.logits(PROMPT))).toBe("backend/disposed");
  });
});
