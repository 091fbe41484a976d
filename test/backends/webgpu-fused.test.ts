/** Steps of one token in few dispatches, against one kernel for each operation and against the CPU. */

import { afterAll, describe, expect, it } from "vitest";
import type { OpOf } from "../../src/backends/interpreter.js";
import { reference } from "../../src/backends/reference.js";
import { wasm } from "../../src/backends/wasm.js";
import { type WebgpuBackend, webgpu } from "../../src/backends/webgpu.js";
import type { GpuSession } from "../../src/backends/webgpu-session.js";
import { makeCheckpoint, readExpected } from "../fixtures/architecture.js";
import { compareProducts, haveGpu } from "../gpu.js";
import { bits, differingBits, largestDifference, openLanguageModel } from "../model/support.js";

const POSITIONS = 64;
const row = (value: number) => Int32Array.of(value);
const stepOf = (token: number, position: number) => ({
  tokens: row(token),
  positions: row(position),
  sequences: row(0),
  blockTables: [Int32Array.from({ length: POSITIONS / 32 }, (_, n) => n)],
  outputs: row(0),
});

let opened: Promise<WebgpuBackend> | undefined;
const open = () => (opened ??= webgpu({ plain: false, ahead: 0 }));

describe.skipIf(!haveGpu())("steps of one token in few dispatches", () => {
  afterAll(async () => {
    await (await opened)?.dispose();
  });

  it("the adapter of these tests has subgroups of one size, whatever it is", async () => {
    const backend = await open();
    expect(backend.adapter.lanes).toBeGreaterThanOrEqual(4);
    const { session, model } = await openLlama(backend);
    await session.run(stepOf(3, 0));
    // Embedding and head, and for each of two layers: queries, keys and values; attention; output; gate; down.
    expect((await session.time(stepOf(3, 1))).dispatches).toBeLessThanOrEqual(2 * 5 + 3);
    await model.dispose();
  });

  it("every product is within 1e-6 of its terms, gates and sums are of these products", async () => {
    const { session, model } = await openLlama(await open());
    const { ops } = model.program;
    for (let position = 0; position < 3; position++) await session.run(stepOf(5 + position, position));
    const batch = stepOf(17, 3);
    let products = 0;
    for (const [i, op] of ops.entries()) {
      if (op.kind === "linear") {
        const [out] = await session.inspect(batch, i + 1, [op.out]);
        // A norm in place is not done in the slot when a product follows: the norm alone says what the product sees.
        const before = ops[i - 1];
        const isInPlace = before.kind === "rmsNorm" && before.x === before.out;
        const [x] = await session.inspect(batch, isInPlace ? i : i + 1, [op.x]);
        const weights = await session.read(op.weight);
        expect(compareProducts(out, await reference().matmul(weights, x), weights, x)).toBeUndefined();
        products++;
      }
      if (op.kind === "gate") await checkGate(session, batch, i, op);
      if (op.kind === "add") await checkSum(session, batch, i, op);
    }
    expect(products).toBe(2 * 7 + 1);
    await model.dispose();
  });

  it("gemma2 in Q4K: logits as with one kernel for each operation, twice the same", async () => {
    const ids = (await readExpected("gemma2")).inputIds.subarray(0, 6);
    const directory = await makeCheckpoint("gemma2");
    const results = [];
    const plain = await webgpu({ plain: true, ahead: 0 });
    for (const backend of [await open(), plain]) {
      const options = { backend, type: "Q4K", cachePositions: POSITIONS } as const;
      const { model } = await openLanguageModel(directory, options);
      const logits = await model.logits(ids, { stepRows: 1 });
      expect(differingBits(await model.logits(ids, { stepRows: 1 }), bits(logits))).toBe(0);
      results.push(logits);
      await model.dispose();
    }
    await plain.dispose();
    expect(largestDifference(results[0], results[1])).toBeLessThan(1e-3);
  });

  it("long contexts: more positions than a tile of the attention has", async () => {
    const results = [];
    const prompt = Array.from({ length: 259 }, (_, i) => (7 * i) % 100);
    const directory = await makeCheckpoint("llama");
    const blocks = Int32Array.from({ length: 9 }, (_, n) => n);
    for (const backend of [await open(), await wasm()]) {
      const { model, session } = await openLanguageModel(directory, { backend, cachePositions: 288 });
      await session.run({
        tokens: Int32Array.from(prompt),
        positions: Int32Array.from(prompt, (_, i) => i),
        sequences: new Int32Array(prompt.length),
        blockTables: [blocks],
        outputs: row(0),
      });
      results.push(await session.run({ ...stepOf(3, prompt.length), blockTables: [blocks] }));
      await model.dispose();
    }
    expect(largestDifference(results[0], results[1])).toBeLessThan(1e-3);
  });
});

async function openLlama(backend: WebgpuBackend) {
  const directory = await makeCheckpoint("llama");
  const opened = await openLanguageModel(directory, { backend, type: "Q4K", cachePositions: POSITIONS });
  return { ...opened, session: opened.session as GpuSession };
}

type Batch = ReturnType<typeof stepOf>;

/** The gate in one dispatch with its products, against products that were made without it. */
async function checkGate(session: GpuSession, batch: Batch, i: number, op: OpOf<"gate">) {
  const [gate, up] = await session.inspect(batch, i, [op.gate, op.up]);
  const [out] = await session.inspect(batch, i + 1, [op.out]);
  const wanted = gate.map((x, n) => (x / (1 + Math.exp(-x))) * up[n]);
  expect(largestDifference(out, wanted)).toBeLessThan(1e-6 * Math.max(1, ...wanted.map(Math.abs)));
}

async function checkSum(session: GpuSession, batch: Batch, i: number, op: OpOf<"add">) {
  const [a, b] = await session.inspect(batch, i, [op.a, op.b]);
  const [out] = await session.inspect(batch, i + 1, [op.out]);
  const wanted = a.map((x, n) => x + b[n] * (op.scale ?? 1));
  expect(largestDifference(out, wanted)).toBeLessThan(1e-6 * Math.max(1, ...wanted.map(Math.abs)));
}
