/** The GPU's bytes are the reference's: golden, on boundaries, whatever it is asked. One device, so that kernels compile once. */

import { afterAll, describe, expect, it } from "vitest";
import type { WebgpuBackend } from "../../src/backends/webgpu.js";
import { quantize } from "../../src/quants/index.js";
import { asCodec, compareProducts, haveGpu, openTwice } from "../gpu.js";
import { backendSuite } from "../suites/backend.js";
import { codecSuite } from "../suites/codec.js";
import { ENCODERS, nameOf } from "../suites/encoders.js";
import { compareHardRows } from "../suites/hard-rows.js";
import { SEED, SLOW } from "../suites/rows.js";

let opened: Promise<WebgpuBackend> | undefined;

/** The device of this file; the suites must not dispose of it. */
async function share(): Promise<WebgpuBackend> {
  opened ??= openTwice();
  return { ...(await opened), dispose: () => {} };
}

describe.skipIf(!haveGpu())("WebGPU", () => {
  afterAll(async () => (await opened)?.dispose());

  codecSuite("webgpu", async () => asCodec(await share()));

  backendSuite("webgpu", share, { runs: 2, mostElements: 70_000, compareProducts });

  describe("hard rows", () => {
    let blocks = 0;
    let repaired = 0;
    afterAll(() => {
      console.log(`hard rows on the GPU: ${blocks} blocks as the reference's, ${repaired} of them repaired`);
    });

    it.each(ENCODERS.map((encoder) => [nameOf(encoder), encoder] as const))("%s", async (_name, encoder) => {
      for (let round = 0; round < (SLOW ? 40 : 1); round++) {
        const rows = { seed: SEED + round, rows: 32, columns: 512 };
        const result = await compareHardRows(await share(), quantize, encoder, rows);
        expect(result.difference).toBeUndefined();
        blocks += result.blocks;
        repaired += result.repaired;
      }
    });
  });
});
