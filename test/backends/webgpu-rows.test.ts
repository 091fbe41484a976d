/** Rows that sit on boundaries, on every encoder: the GPU's bytes are the reference's. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { WebgpuBackend } from "../../src/backends/webgpu.js";
import { quantize } from "../../src/quants/index.js";
import { haveGpu, openTwice } from "../gpu.js";
import { ENCODERS, nameOf } from "../suites/compare-tensors.js";
import { compareHardRows } from "../suites/hard-rows.js";
import { SEED, SLOW } from "../suites/rows.js";

describe.skipIf(!haveGpu())("WebGPU", () => {
  let backend: WebgpuBackend;
  let blocks = 0;
  let repaired = 0;
  beforeAll(async () => {
    backend = await openTwice();
  });
  afterAll(async () => {
    await backend?.dispose();
    console.log(`hard rows on the GPU: ${blocks} blocks as the reference's, ${repaired} of them repaired`);
  });

  it.each(ENCODERS.map((encoder) => [nameOf(encoder), encoder] as const))("%s", async (_name, encoder) => {
    for (let round = 0; round < (SLOW ? 40 : 2); round++) {
      const rows = { seed: SEED + round, rows: 24, columns: 512 };
      const result = await compareHardRows(backend, quantize, encoder, rows);
      expect(result.difference).toBeUndefined();
      blocks += result.blocks;
      repaired += result.repaired;
    }
  });
});
