// This package with worker threads, its step loop as LanguageModel runs it.
import { basename, dirname } from "node:path";
import { threads } from "../../dist/backends/threads.js";
import { openModel } from "../../dist/load.js";
import { pickLargest } from "../../dist/model/sampler.js";
import { openDirectory } from "../../dist/node/directory.js";
import { placeModel } from "../../dist/place.js";
import { plan } from "../../dist/plan.js";
import { processorSeconds } from "../lib/measure.mjs";

const STEP_ROWS = 256;

export async function openIsq(path, { threads: workers, context }) {
  const pool = await threads({ workers });
  const opened = await openModel(await openDirectory(dirname(path)), { gguf: basename(path) });
  const session = await pool.open(opened.program, { cachePositions: context });
  await placeModel(plan(opened.program, opened.sourceOf, { type: null }), opened.checkpoint, pool, session);
  const table = Int32Array.from({ length: context / 32 }, (_, block) => block);
  const step = (tokens, position, outputs) =>
    session.run({
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from(tokens, (_, row) => position + row),
      sequences: new Int32Array(tokens.length),
      blockTables: [table.subarray(0, Math.ceil((position + tokens.length) / 32))],
      outputs: Int32Array.from(outputs),
    });
  const feed = async (tokens, position) => {
    for (let first = 0; first < tokens.length; first += STEP_ROWS) {
      const part = tokens.slice(first, first + STEP_ROWS);
      const last = first + part.length === tokens.length;
      await step(part, position + first, last ? [part.length - 1] : []);
    }
  };
  const fill = async (tokens) => {
    if (tokens.length > 0) await feed(tokens, 0);
  };
  return {
    processorSeconds,
    fill,
    /** Seconds for running `tokens` after `before`. */
    async prefill(before, tokens) {
      const start = performance.now();
      await feed(tokens, before.length);
      return (performance.now() - start) / 1000;
    },
    /** Seconds for `count` tokens, each chosen from the logits of the one before, after `before`. */
    async generate(before, count) {
      let token = 1;
      const start = performance.now();
      for (let i = 0; i < count; i++) {
        token = pickLargest(await step([token], before.length + i, [0]), pool.logitKernels);
      }
      return (performance.now() - start) / 1000;
    },
    async close() {
      await session.dispose();
      await pool.dispose();
      await opened.checkpoint.close();
    },
  };
}
