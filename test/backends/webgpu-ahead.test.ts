/** Steps that run ahead of their turn: the same logits as without them, whatever comes between. */

import { afterAll, describe, expect, it } from "vitest";
import { type WebgpuBackend, webgpu } from "../../src/backends/webgpu.js";
import { Ahead } from "../../src/backends/webgpu-ahead.js";
import type { GpuSession } from "../../src/backends/webgpu-session.js";
import { createSampler, pickLargest } from "../../src/model/sampler.js";
import { makeCheckpoint } from "../fixtures/architecture.js";
import { haveGpu } from "../gpu.js";
import { bits, differingBits, openLanguageModel } from "../model/support.js";

const row = (value: number) => Int32Array.of(value);
const BLOCKS = [Int32Array.of(0, 1, 2, 3)];
const PROMPT = Array.from({ length: 24 }, (_, i) => (5 * i + 3) % 90);
const stepOf = (token: number, position: number, blockTables = BLOCKS) => ({
  tokens: row(token),
  positions: row(position),
  sequences: row(0),
  blockTables,
  outputs: row(0),
});

/** Plays a GPU: logits that name the step, and the choice `token + 1`. */
function createAhead(most: number) {
  const started: number[] = [];
  const resultOf = async (position: number) => ({ logits: Float32Array.of(position), choice: position + 1 });
  const ahead = new Ahead(most, 100, ({ positions }) => {
    started.push(positions[0]);
    return resultOf(positions[0]);
  });
  let run = 0;
  const step = async (token: number, position: number) => {
    const [logits] = await ahead.step(stepOf(token, position), () => {
      run++;
      return resultOf(position);
    });
    expect(logits).toBe(position);
  };
  return { ahead, step, started, runs: () => run };
}

describe("which steps run ahead", () => {
  it("none at first, two once the likeliest token was taken again and again, and none twice", async () => {
    const { step, started, runs } = createAhead(2);
    for (let position = 0; position < 20; position++) await step(position, position);
    expect(started).toEqual(Array.from({ length: 19 }, (_, i) => 3 + i));
    expect(runs()).toBe(3);
  });

  it("another token, position or table throws them away, and trust with them", async () => {
    const { ahead, step, started, runs } = createAhead(2);
    for (let position = 0; position < 10; position++) await step(position, position);
    const before = [started.length, runs()];
    await step(77, 10);
    await step(11, 11); // as expected, but too early for more
    expect([started.length, runs()]).toEqual([before[0], before[1] + 2]);
    const other = [Int32Array.of(0, 9)];
    const result = async () => ({ logits: Float32Array.of(-1), choice: null });
    expect((await ahead.step(stepOf(12, 12, other), result))[0]).toBe(-1);
  });

  it("not beyond the context, and none where none is allowed", async () => {
    const { step, started } = createAhead(2);
    for (let position = 90; position < 100; position++) await step(position, position);
    expect(Math.max(...started)).toBe(99);
    const none = createAhead(0);
    for (let position = 0; position < 20; position++) await none.step(position, position);
    expect(none.started).toEqual([]);
  });
});

let opened: Promise<readonly [WebgpuBackend, WebgpuBackend]> | undefined;
const open = () => (opened ??= Promise.all([webgpu({ ahead: 2 }), webgpu({ ahead: 0 })]));

describe.skipIf(!haveGpu())("steps ahead on a GPU", () => {
  afterAll(async () => {
    for (const backend of (await opened) ?? []) await backend.dispose();
  });

  it("greedy texts beyond a block of the cache, drawn texts, two texts at a time, and other weights in between", async () => {
    const texts = [];
    for (const backend of await open()) {
      const { model, session } = await openLanguageModel(await makeCheckpoint("llama"), {
        backend,
        type: "Q8_0",
        cachePositions: 160,
      });
      const greedy = () => model.generate(PROMPT, { maxTokens: 14 });
      const drawn = () =>
        model.generate([3, 17], { maxTokens: 6, sampler: createSampler({ temperature: 2, seed: 7 }) });
      const own: unknown[] = [await greedy(), await drawn(), await Promise.all([greedy(), drawn()])];
      let drawnTokens = 0;
      let swap: Promise<void> | undefined;
      // From the sampler, so that the swap comes before the next step whatever the clock says.
      const sampler = (logits: Float32Array) => {
        if (++drawnTokens === 6)
          swap = model.between(() => swapHeads(session as GpuSession, model.program.weights.length));
        return pickLargest(logits);
      };
      own.push(...(await model.generate(PROMPT, { maxTokens: 14, sampler })));
      await swap;
      texts.push(own);
      await model.dispose();
    }
    expect(texts[0]).toEqual(texts[1]);
    expect(texts[0].slice(3)).not.toEqual(texts[0][0]); // the weights did change
  });

  it("the same bits of logits; a step of other tests in between does no harm", async () => {
    const results = [];
    for (const backend of await open()) {
      const { session, model } = await openLanguageModel(await makeCheckpoint("llama"), {
        backend,
        cachePositions: 128,
      });
      const own = session as GpuSession;
      const all: number[] = [];
      let token = 3;
      for (let position = 0; position < 24; position++) {
        if (position === 12)
          await own.inspect(stepOf(9, 12), model.program.ops.length, [model.program.logits]);
        const logits = await own.run(stepOf(token, position));
        token = position === 18 ? 1 : pickLargest(logits); // once against what is expected
        all.push(...logits);
      }
      results.push(Float32Array.from(all));
      await model.dispose();
    }
    expect(differingBits(results[0], bits(results[1]))).toBe(0);
  });

  it("a session may end while steps run", async () => {
    const [backend] = await open();
    const before = backend.memory.byteLength;
    const { session, model } = await openLanguageModel(await makeCheckpoint("llama"), {
      backend,
      cachePositions: 64,
    });
    let token = 3;
    for (let position = 0; position < 12; position++)
      token = pickLargest(await session.run(stepOf(token, position)));
    await model.dispose();
    expect(backend.memory.byteLength).toBeLessThan(before + 2 ** 20);
  });
});

/** Puts another matrix of the same shape in the place of the last one. */
async function swapHeads(session: GpuSession, count: number): Promise<void> {
  const head = await session.read(count - 1);
  const data = new Uint8Array(head.data).reverse();
  await session.place(count - 1, { ...head, data: rescale(data, head.data) });
}

/** Q8_0: the codes of one, the scales of the other. */
function rescale(codes: Uint8Array, scales: Uint8Array): Uint8Array {
  return codes.map((code, i) => (i % 34 < 2 ? scales[i] : code));
}
