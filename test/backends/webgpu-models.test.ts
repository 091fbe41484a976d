/** Models on a GPU: every architecture's logits, products within their bound, the same text as the reference. */

import { readdirSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { type WebgpuBackend, webgpu } from "../../src/backends/webgpu.js";
import { makeCheckpoint, readExpected } from "../fixtures/architecture.js";
import { haveGpu } from "../gpu.js";
import { bits, differingBits, largestDifference, openLanguageModel } from "../model/support.js";

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
});
