/** Texts that share steps: each gets what it gets alone, whatever joins, leaves, is aborted or sent back beside it. */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Backend, Session } from "../../src/backends/backend.js";
import { type Batch, CACHE_BLOCK } from "../../src/backends/program.js";
import { wasm } from "../../src/backends/wasm.js";
import type { Directory } from "../../src/files/directory.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { createSampler } from "../../src/model/sampler.js";
import type { SchedulerOptions } from "../../src/model/scheduler.js";
import { makeCheckpoint } from "../fixtures/architecture.js";
import { SEED } from "../suites/rows.js";
import { bits, openLanguageModel } from "./support.js";

/** llama looks back at everything, mistral at 16 positions. */
const MODELS = ["llama", "mistral"] as const;
const VOCABULARY = 256;

interface Spied {
  readonly session: Session;
  readonly steps: Batch[];
  /** Called when a step begins; may wait. */
  onStep: (batch: Batch, signal?: AbortSignal) => unknown;
}

let backend: Backend;
const spied = new Map<string, Spied>();

/** One session per model: its weights are placed once, the language models over it take turns. */
beforeAll(async () => {
  backend = await wasm();
  for (const name of MODELS) {
    const directory: Directory = await makeCheckpoint(name);
    const { session, model } = await openLanguageModel(directory, { backend, cachePositions: 2048 });
    const spy: Spied = { steps: [], onStep: () => {}, session: { ...session, dispose() {}, run } };
    async function run(batch: Batch, signal?: AbortSignal): Promise<Float32Array> {
      spy.steps.push(batch);
      await spy.onStep(batch, signal);
      return session.run(batch, signal);
    }
    programs.set(name, model.program);
    spied.set(name, spy);
  }
});
const programs = new Map<string, LanguageModel["program"]>();
afterAll(() => backend?.dispose());

function open(name: string, options: Partial<SchedulerOptions> = {}): LanguageModel & { spy: Spied } {
  const spy = spied.get(name)!;
  spy.steps.length = 0;
  spy.onStep = () => {};
  const model = new LanguageModel(programs.get(name)!, spy.session, { cachePositions: 2048, ...options });
  return Object.assign(model, { spy });
}

interface Text {
  readonly length: number;
  readonly seed: number;
  readonly maxTokens: number;
  /** Steps after which it comes and goes. */
  readonly joinAt: number;
  readonly abortAt: number | null;
}

const tokensOf = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => (i * 17 + seed * 29) % VOCABULARY);
const sampled = (seed: number, maxTokens: number) => ({
  maxTokens,
  sampler: createSampler({ temperature: 1, topK: 50, seed }),
});
const rowsOf = (steps: readonly Batch[]) => steps.reduce((sum, { tokens }) => sum + tokens.length, 0);
const tag = (expected: string) => expect.objectContaining({ tag: expected });

describe.each(MODELS)("%s: texts in one step", (name) => {
  test("get the tokens and log probabilities they get alone, at different lengths and seeds", async () => {
    const texts = [1, 40, 97, 300, 5, 64].map((length, i) => ({
      prompt: tokensOf(length, i),
      run: async (model: LanguageModel) => {
        const out = [];
        const options = { ...sampled(i, 20 + 7 * i), logprobs: 2 };
        for await (const chosen of model.choose(tokensOf(length, i), options)) out.push(chosen);
        return out;
      },
    }));
    const alone = [];
    for (const { run } of texts) alone.push(await run(open(name)));
    const model = open(name);
    const together = await Promise.all(texts.map(({ run }) => run(model)));
    expect(together).toEqual(alone);
    expect(Math.max(...model.spy.steps.map(({ blockTables }) => blockTables.length))).toBe(6);
    expect(model.spy.steps.length).toBeLessThan(80); // one at a time they take 225
  });

  test("do not change the logits of what is scored beside them", async () => {
    const model = open(name);
    const prompt = tokensOf(150, 9);
    const alone = bits(await model.logits(prompt));
    const text = model.generate(tokensOf(33, 1), { maxTokens: 30 });
    expect(bits(await model.logits(prompt, { stepRows: 31 }))).toEqual(alone);
    await text;
  });

  test("any order of joining, leaving, aborting and being sent back: the same tokens, and no block is lost", async () => {
    const alone = new Map<string, number[]>();
    const plan: fc.Arbitrary<Text[]> = fc.array(
      fc.record({
        length: fc.integer({ min: 1, max: 140 }),
        seed: fc.integer({ min: 0, max: 2 }),
        maxTokens: fc.integer({ min: 1, max: 40 }),
        joinAt: fc.integer({ min: 0, max: 30 }),
        abortAt: fc.option(fc.integer({ min: 1, max: 40 })),
      }),
      { minLength: 2, maxLength: 6 },
    );
    const check = async (texts: typeof plan extends fc.Arbitrary<infer T> ? T : never, blocks: number) => {
      for (const { length, seed, maxTokens } of texts) {
        const key = `${length} ${seed} ${maxTokens}`;
        if (!alone.has(key)) {
          alone.set(key, await open(name).generate(tokensOf(length, seed), sampled(seed, maxTokens)));
        }
      }
      const model = open(name, {
        cachePositions: blocks * CACHE_BLOCK,
        maxSequences: 4,
        reusePrefixes: true,
        promptRows: 48,
      });
      let step = 0;
      const events = new Map<number, (() => void)[]>();
      const at = (when: number) =>
        new Promise<void>((resolve) => events.set(when, [...(events.get(when) ?? []), resolve]));
      model.spy.onStep = () => {
        for (const event of events.get(++step) ?? []) event();
        events.delete(step);
      };
      const flush = () => {
        for (const list of events.values()) for (const event of list) event();
        events.clear();
      };
      const runs = texts.map(async ({ length, seed, maxTokens, joinAt, abortAt }) => {
        if (joinAt > 0) await at(joinAt);
        const controller = new AbortController();
        if (abortAt !== null) void at(step + abortAt).then(() => controller.abort());
        const options = { ...sampled(seed, maxTokens), signal: controller.signal };
        const tokens: number[] = [];
        try {
          for await (const token of model.stream(tokensOf(length, seed), options)) tokens.push(token);
        } catch (error) {
          if (!controller.signal.aborted) throw error;
        }
        const expected = alone.get(`${length} ${seed} ${maxTokens}`)!;
        expect(tokens).toEqual(controller.signal.aborted ? expected.slice(0, tokens.length) : expected);
      });
      const all = Promise.all(runs);
      let over = false;
      const watch = async () => {
        while (!over) {
          await new Promise((resolve) => setTimeout(resolve, 5));
          if (model.load.running + model.load.waiting === 0) flush();
        }
      };
      await Promise.all([all.finally(() => (over = true)), watch()]);
      expect(model.load).toMatchObject({ running: 0, waiting: 0, freeCacheBlocks: blocks });
    };
    // Seven blocks hold one text of the longest, hardly two: they are sent back all the time.
    const property = fc.asyncProperty(plan, fc.constantFrom(7, 64), check);
    await fc.assert(property, { seed: SEED, numRuns: 8 });
  });
});

describe("turns", () => {
  test("long prompts come in pieces beside running texts, and none of these waits for them", async () => {
    const model = open("llama", { promptRows: 80 });
    const text = model.generate(tokensOf(3, 1), { maxTokens: 60 });
    await Promise.all([text, model.generate(tokensOf(400, 2), { maxTokens: 1 })]);
    const both = model.spy.steps.filter(({ blockTables }) => blockTables.length === 2);
    // A quarter of 80 rows and the text's own, in each step until the prompt is done.
    expect(both.slice(1, -1).map(({ tokens }) => tokens.length)).toContain(21);
    expect(Math.max(...both.slice(1).map(({ tokens }) => tokens.length))).toBe(21);
    expect(both.length).toBeGreaterThan(15);
  });

  test("prompts share the rows of a step by arrival", async () => {
    const model = open("llama", { promptRows: 100 });
    await Promise.all([70, 60, 50].map((length, i) => model.generate(tokensOf(length, i), { maxTokens: 1 })));
    expect(model.spy.steps.map(({ tokens }) => tokens.length)).toEqual([100, 80]);
    expect(model.spy.steps.map(({ blockTables }) => blockTables.length)).toEqual([2, 2]);
  });

  test("no more texts run than may; the others wait for their turn", async () => {
    const model = open("llama", { maxSequences: 2 });
    const runs = [1, 2, 3, 4, 5].map((seed) => model.generate(tokensOf(4, seed), { maxTokens: 6 }));
    await Promise.resolve();
    await Promise.all(runs);
    expect(Math.max(...model.spy.steps.map(({ blockTables }) => blockTables.length))).toBe(2);
  });

  test("a reader that stops reading holds up nobody, and at most one token is made ahead of it", async () => {
    const model = open("llama");
    const slow = model.stream(tokensOf(4, 1), { maxTokens: 50 });
    await slow.next();
    await model.generate(tokensOf(4, 2), { maxTokens: 20 });
    const rows = (batch: Batch) => batch.blockTables.length;
    expect(model.spy.steps.filter((batch) => rows(batch) === 2).length).toBeLessThanOrEqual(2);
    await slow.return();
    expect(model.load.running).toBe(0);
  });

  test("an abort frees the place at once and lets the others go on; a step for nobody is stopped", async () => {
    const model = open("llama", { maxSequences: 2 });
    const expected = await open("llama").generate(tokensOf(4, 2), { maxTokens: 30 });
    const controller = new AbortController();
    const { spy } = model;
    spy.steps.length = 0;
    const aborted = model.generate(tokensOf(4, 1), { maxTokens: 500, signal: controller.signal });
    aborted.catch(() => {});
    const other = model.generate(tokensOf(4, 2), { maxTokens: 30 });
    const third = model.generate(tokensOf(4, 2), { maxTokens: 30 });
    spy.onStep = () => {
      if (spy.steps.length !== 5) return;
      expect(model.load).toMatchObject({ running: 2, waiting: 1 });
      controller.abort("gone");
      expect(model.load).toMatchObject({ running: 1, waiting: 1 });
    };
    await expect(aborted).rejects.toEqual(tag("aborted"));
    expect([await other, await third]).toEqual([expected, expected]);
    const last = new AbortController();
    let stopped = false;
    spy.onStep = (_batch, signal) => {
      last.abort();
      stopped = signal!.aborted;
    };
    const run = model.generate(tokensOf(4, 1), { maxTokens: 5, signal: last.signal });
    await expect(run).rejects.toEqual(tag("aborted"));
    expect(stopped).toBe(true);
  });

  test("a sampler that fails ends its own text only", async () => {
    const model = open("llama");
    const broken = model.generate(tokensOf(4, 1), {
      maxTokens: 5,
      sampler: () => {
        throw new Error("broken");
      },
    });
    const fine = model.generate(tokensOf(4, 2), { maxTokens: 5 });
    await expect(broken).rejects.toThrowError("broken");
    expect(await fine).toHaveLength(5);
  });

  test("a step that fails ends the texts in it, and the next text runs", async () => {
    const model = open("llama");
    model.spy.onStep = () => {
      throw new Error("no memory");
    };
    await expect(model.generate(tokensOf(4, 1), { maxTokens: 5 })).rejects.toThrowError("no memory");
    model.spy.onStep = () => {};
    expect(await model.generate(tokensOf(4, 2), { maxTokens: 5 })).toHaveLength(5);
    expect(model.load.freeCacheBlocks).toBe(model.load.cacheBlocks);
  });

  test("disposal ends all texts", async () => {
    const model = open("llama", { maxSequences: 1 });
    const runs = [1, 2].map((seed) => model.generate(tokensOf(4, seed), { maxTokens: 50 }));
    const ended = Promise.allSettled(runs);
    await model.dispose();
    for (const { status } of await ended) expect(status).toBe("rejected");
  });
});

describe("the cache", () => {
  test("a text that outgrows it alone ends with cache/full after what fits; others are sent back and finish", async () => {
    const options = { cachePositions: 4 * CACHE_BLOCK };
    const model = open("llama", options);
    const tokens: number[] = [];
    const run = async () => {
      for await (const token of model.stream(tokensOf(100, 1), { maxTokens: 100 })) tokens.push(token);
    };
    await expect(run()).rejects.toMatchObject({
      tag: "cache/full",
      details: { field: "cache", value: 4 * CACHE_BLOCK + 1, limit: 4 * CACHE_BLOCK },
    });
    expect(tokens).toEqual((await open("llama").generate(tokensOf(100, 1), { maxTokens: 100 })).slice(0, 29));
    const expected: number[][] = [];
    for (const seed of [1, 2]) {
      expected.push(await open("llama").generate(tokensOf(20, seed), { maxTokens: 80 }));
    }
    const small = open("llama", options);
    const together = [1, 2].map((seed) => small.generate(tokensOf(20, seed), { maxTokens: 80 }));
    expect(await Promise.all(together)).toEqual(expected);
    expect(small.load.freeCacheBlocks).toBe(4);
    await expect(small.generate(tokensOf(129, 1), { maxTokens: 1 })).rejects.toMatchObject({
      tag: "prompt/length",
      details: { limit: 4 * CACHE_BLOCK },
    });
  });

  test("a text that is already in the step is sent back for an earlier prompt", async () => {
    const [prompt, short] = [tokensOf(220, 1), tokensOf(1, 2)];
    const run = (model: LanguageModel) => [
      () => model.generate(prompt, { maxTokens: 30 }),
      () => model.generate(short, { maxTokens: 60 }),
    ];
    const expected: number[][] = [];
    for (const alone of run(open("llama"))) expected.push(await alone());
    const model = open("llama", { cachePositions: 8 * CACHE_BLOCK, promptRows: 16 });
    expect(await Promise.all(run(model).map((start) => start()))).toEqual(expected);
    const starts = model.spy.steps.filter(({ positions, tokens }) =>
      tokens.some((token, row) => token === short[0] && positions[row] === 0),
    );
    expect(starts.length).toBeGreaterThan(1);
  });

  test("a window gives back what no layer looks at: texts and prompts longer than the cache run", async () => {
    const blocks = (16 + 256 + CACHE_BLOCK) / CACHE_BLOCK + 1;
    const model = open("mistral", { cachePositions: Math.floor(blocks) * CACHE_BLOCK, reusePrefixes: true });
    const prompt = tokensOf(440, 3);
    const alone = open("mistral");
    expect(await model.generate(prompt, { maxTokens: 60 })).toEqual(
      await alone.generate(prompt, { maxTokens: 60 }),
    );
    expect(model.load.freeCacheBlocks).toBe(model.load.cacheBlocks);
    expect(bits(await model.logits(prompt))).toEqual(bits(await alone.logits(prompt)));
  });

  test("without a kept cache every token runs the whole text, with the same result", async () => {
    const expected = await open("llama").generate(tokensOf(40, 3), sampled(3, 6));
    const model = open("llama", { keepCache: false });
    expect(await model.generate(tokensOf(40, 3), sampled(3, 6))).toEqual(expected);
    expect(rowsOf(model.spy.steps)).toBe(40 + 41 + 42 + 43 + 44 + 45);
  });
});

describe("equal beginnings", () => {
  const prompt = tokensOf(3 * CACHE_BLOCK + 5, 4);

  test("are computed once, also when the texts come at the same time, and give the same tokens", async () => {
    const expected: number[][] = [];
    for (const seed of [1, 2, 3]) expected.push(await open("llama").generate(prompt, sampled(seed, 10)));
    const model = open("llama", { reusePrefixes: true });
    const runs = [1, 2, 3].map((seed) => model.generate(prompt, sampled(seed, 10)));
    expect(await Promise.all(runs)).toEqual(expected);
    expect(rowsOf(model.spy.steps)).toBe(prompt.length + 2 * 5 + 3 * 9);
    model.spy.steps.length = 0;
    expect(await model.generate(prompt, sampled(1, 10))).toEqual(expected[0]);
    expect(rowsOf(model.spy.steps)).toBe(5 + 9);
    // One token differs in the second block: only the first is shared.
    const other = prompt.with(CACHE_BLOCK + 3, 7);
    model.spy.steps.length = 0;
    expect(await model.generate(other, sampled(1, 10))).toEqual(
      await open("llama").generate(other, sampled(1, 10)),
    );
  });

  test("a prompt of whole blocks computes its last block again: somebody must have the logits", async () => {
    const whole = prompt.slice(0, 2 * CACHE_BLOCK);
    const expected = await open("llama").generate(whole, { maxTokens: 4 });
    const model = open("llama", { reusePrefixes: true });
    for (let round = 0; round < 2; round++) {
      expect(await model.generate(whole, { maxTokens: 4 })).toEqual(expected);
    }
    expect(rowsOf(model.spy.steps)).toBe(whole.length + CACHE_BLOCK + 2 * 3);
  });

  test("are forgotten when a weight is replaced", async () => {
    const model = open("llama", { reusePrefixes: true });
    const directory = await makeCheckpoint("llama");
    const own = await openLanguageModel(directory, { backend, cachePositions: 2048 });
    const shared = new LanguageModel(model.program, own.session, {
      cachePositions: 2048,
      reusePrefixes: true,
    });
    await shared.generate(prompt, { maxTokens: 4 });
    const weight = model.program.weights.findIndex(({ name }) => name.includes("k_proj"));
    const { shape } = model.program.weights[weight];
    const data = new Uint8Array(4 * shape[0] * shape[1]);
    await shared.between((session) => session.place(weight, { type: "F32", shape, data }));
    const after = await shared.generate(prompt, sampled(1, 8));
    await own.model.between((session) => session.place(weight, { type: "F32", shape, data }));
    expect(after).toEqual(await own.model.generate(prompt, sampled(1, 8)));
    await own.model.dispose();
  });

  test("make room when the cache is full, the longest unused first", async () => {
    const model = open("llama", { reusePrefixes: true, cachePositions: 8 * CACHE_BLOCK });
    const texts = [1, 2, 3, 4].map((seed) => tokensOf(2 * CACHE_BLOCK + 1, seed));
    for (const text of texts) await model.generate(text, { maxTokens: 1 });
    expect(model.load.freeCacheBlocks).toBe(8);
    const rows = async (text: number[]) => {
      model.spy.steps.length = 0;
      await model.generate(text, { maxTokens: 1 });
      return rowsOf(model.spy.steps);
    };
    expect(await rows(texts[3])).toBe(1);
    expect(await rows(tokensOf(7 * CACHE_BLOCK, 9))).toBe(7 * CACHE_BLOCK);
    expect(await rows(texts[0])).toBe(2 * CACHE_BLOCK + 1);
  });
});
