/** What a pool does when it is stopped, hurt, exhausted, used a thousand times, or left alone. */

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.js";
import { Staging } from "../../src/backends/shared.js";
import { type ThreadsBackend, type ThreadsOptions, threads } from "../../src/backends/threads.js";
import { encodeValues } from "../../src/backends/threads-encode.js";
import { wasm } from "../../src/backends/wasm.js";
import { quantize } from "../../src/quants/index.js";
import { makeCheckpoint } from "../fixtures/architecture.js";
import { withSyntheticModel } from "../fixtures/synthetic.js";
import { openLanguageModel, placeFolder } from "../model/support.js";
import { compareTensors } from "../suites/compare-tensors.js";
import { gauss } from "../suites/encoders.js";
import { processorSeconds } from "../suites/processor-time.js";

const open: ThreadsBackend[] = [];

async function start(options: ThreadsOptions): Promise<ThreadsBackend> {
  const backend = await threads(options);
  open.push(backend);
  return backend;
}

afterEach(async () => {
  for (const backend of open.splice(0)) await backend.dispose();
});

/** The workers that Node starts while `make` runs. */
async function withWorkers<Result>(make: () => Promise<Result>): Promise<[Result, Worker[]]> {
  const started: Worker[] = [];
  const note = (worker: unknown) => started.push(worker as Worker);
  process.on("worker", note);
  try {
    return [await make(), started];
  } finally {
    process.off("worker", note);
  }
}

const small = gauss(4 * 256, 1);
const expected = quantize("Q4K", small, { shape: [4, 256] });

async function expectUsable(backend: ThreadsBackend): Promise<void> {
  expect(compareTensors(await backend.quantize("Q4K", small, { shape: [4, 256] }), expected)).toBeUndefined();
}

describe("messages to workers", () => {
  it("have the importance and not all of the buffer that it is a part of", async () => {
    const sent: number[] = [];
    const pool = {
      members: 1,
      isOpen: true,
      readsBlobs: false,
      async together(task: { job?: { importance?: Float32Array } }) {
        sent.push(task.job!.importance!.buffer.byteLength);
        return [{ nonFinite: -1, reencodedBlocks: 0 }];
      },
      async close() {},
    };
    const workshop = { pool, staging: new Staging() } as unknown as Parameters<typeof encodeValues>[0];
    const matrix = new Float32Array(1000 * 256).fill(1);
    for (const importance of [matrix.subarray(256, 512), matrix.slice(0, 256)]) {
      await encodeValues(workshop, "Q4K", small, { shape: [4, 256], importance });
    }
    expect(sent).toEqual([1024, 1024]);
  });
});

describe("a pool that is stopped", () => {
  it("ends quantizing at once and works on", async () => {
    const backend = await start({ workers: 2 });
    const values = gauss(2 ** 23, 2);
    const abort = new AbortController();
    const begun = processorSeconds();
    const whole = await backend.quantize("Q2K", values, { shape: [values.length] });
    const seconds = processorSeconds() - begun;
    const stopped = backend.quantize("Q2K", values, { shape: [values.length], signal: abort.signal });
    const waiting = backend.quantize("Q2K", values, { shape: [values.length], signal: abort.signal });
    setTimeout(() => abort.abort("enough"), 50);
    const refused = processorSeconds();
    await expect(stopped).rejects.toMatchObject({ tag: "aborted", details: { reason: "enough" } });
    await expect(waiting).rejects.toMatchObject({ tag: "aborted" });
    await expectUsable(backend);
    // Stopping and another tensor together take a fraction of the tensor that was stopped.
    expect(processorSeconds() - refused).toBeLessThan(seconds / 2 + 0.5);
    expect(whole.data.length).toBeGreaterThan(0);
    await expect(
      backend.quantize("Q2K", values, { shape: [values.length], signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ tag: "aborted" });
  });

  it("ends a step of a model and computes the same logits afterwards", async () => {
    const backend = await start({ workers: 2 });
    const { model } = await openLanguageModel(await makeCheckpoint("mistral"), {
      backend,
      cachePositions: 512,
    });
    const tokens = Array.from({ length: 100 }, (_, i) => i);
    const before = await model.logits(tokens);
    for (const delay of [0, 1, 2, 3, 5, 8]) {
      const abort = new AbortController();
      setTimeout(() => abort.abort(), delay);
      await model.logits(tokens, { signal: abort.signal, stepRows: 3 }).then(
        () => {},
        (error) => expect(error).toMatchObject({ tag: "aborted" }),
      );
    }
    expect(await model.logits(tokens)).toEqual(before);
    await model.dispose();
  });
});

describe("a worker that dies", () => {
  it("is a typed error, and its successor does the next work", async () => {
    const [backend, workers] = await withWorkers(() => start({ workers: 3 }));
    expect(workers).toHaveLength(3);
    const values = gauss(2 ** 22, 3);
    const work = backend.quantize("Q2K", values, { shape: [values.length] });
    setTimeout(() => workers[1].terminate(), 20);
    await expect(work).rejects.toMatchObject({ tag: "backend/worker" });
    await expectUsable(backend);
    await Promise.all(workers.map((worker) => worker.terminate()));
    await expectUsable(backend);
  });

  it("takes its share of a model with it, which the model says; other models can be opened", async () => {
    const [backend, workers] = await withWorkers(() => start({ workers: 2 }));
    const options = { backend, cachePositions: 64 };
    const { model } = await openLanguageModel(await makeCheckpoint("llama"), options);
    const before = await model.logits([1, 2, 3]);
    await workers[0].terminate();
    await expect(model.logits([1, 2, 3])).rejects.toMatchObject({ tag: "backend/worker" });
    await expect(model.logits([1, 2, 3])).rejects.toMatchObject({ tag: "backend/worker" });
    await model.dispose();
    const again = await openLanguageModel(await makeCheckpoint("llama"), options);
    expect(await again.model.logits([1, 2, 3])).toEqual(before);
    await again.model.dispose();
  });
});

describe("memory", () => {
  const size = { layers: 5, width: 1024, hidden: 4096, vocabulary: 2048, heads: 16 };

  it("of a model is spread over the workers by rows, and over several memories of each", async () => {
    const limit = 64 * 2 ** 20;
    const tokens = [1, 5, 9, 13];
    await withSyntheticModel(size, async (folder) => {
      const logitsOn = async (backend: Backend) => {
        const { model, report } = await placeFolder(folder, backend, "Q8_0");
        expect(report.plan.totals.byteLength).toBeGreaterThan(1.3 * limit);
        const logits = await model.logits(tokens);
        await model.dispose();
        return logits;
      };
      const expected = await logitsOn(await wasm());
      const two = { workers: 2, memoryByteLength: limit, workerByteLength: limit };
      expect(await logitsOn(await start(two))).toEqual(expected);
      expect(await logitsOn(await start({ workers: 1, memoryByteLength: 2 ** 24 }))).toEqual(expected);
      const one = start({ ...two, workers: 1 });
      await expect(logitsOn(await one)).rejects.toMatchObject({ tag: "backend/memory" });
    });
  });

  it("stays flat over 1,000 quantizations", async () => {
    const backend = await start({ workers: 2 });
    const values = gauss(2 ** 18, 4);
    const repeat = async (times: number) => {
      for (let i = 0; i < times; i++) await backend.quantize("Q8_0", values, { shape: [values.length] });
    };
    await repeat(100);
    const before = process.memoryUsage.rss();
    await repeat(1000);
    // 1,000 results and copies of the values would be 1.3 GB.
    expect((process.memoryUsage.rss() - before) / 2 ** 20).toBeLessThan(48);
  });
});

describe("the memory of models", () => {
  it("is returned when they are disposed", async () => {
    const backend = await start({ workers: 2 });
    const directory = await makeCheckpoint("mistral");
    const repeat = async (times: number) => {
      for (let i = 0; i < times; i++) {
        const { model } = await openLanguageModel(directory, { backend, cachePositions: 2048 });
        await model.logits(Array.from({ length: 60 }, (_, at) => at));
        await model.dispose();
      }
    };
    await repeat(40); // until the heaps have their size
    const before = process.memoryUsage.rss();
    await repeat(60);
    expect((process.memoryUsage.rss() - before) / 2 ** 20).toBeLessThan(48);
  });
});

describe("the end", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const run = (lines: string) =>
    execFileSync(process.execPath, ["--input-type=module", "-e", lines], {
      cwd: root,
      encoding: "utf8",
      timeout: 30_000,
    });
  const use = `
    import { threads } from "isq/threads";
    const b = await threads({ workers: 2 });
    const { data } = await b.quantize("Q8_0", new Float32Array(64).fill(1), { shape: [64] });
    console.log(data.length);`;

  it("comes by itself, with the backend disposed or not", () => {
    expect(run(`${use} await b.dispose();`)).toBe("68\n");
    expect(run(use)).toBe("68\n");
  });

  it("of the backend is told to those who still wait and to those who come later", async () => {
    const backend = await start({ workers: 2 });
    const values = gauss(2 ** 22, 3);
    const work = backend.quantize("Q2K", values, { shape: [values.length] });
    const waiting = backend.quantize("Q2K", values, { shape: [values.length] });
    const ends = Promise.all([
      expect(work).rejects.toMatchObject({ tag: "backend/disposed" }),
      expect(waiting).rejects.toMatchObject({ tag: "backend/disposed" }),
    ]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    await backend.dispose();
    await ends;
    await expect(backend.quantize("Q4K", small, { shape: [4, 256] })).rejects.toMatchObject({
      tag: "backend/disposed",
    });
  });
});
