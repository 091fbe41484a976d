/** Models on two backends at once: the bits of one, however the layers are shared out. */

import { describe, expect, it } from "vitest";
import { reference } from "../../src/backends/reference.js";
import { splitBackend, splitProgram } from "../../src/backends/split.js";
import { wasm } from "../../src/backends/wasm.js";
import { openModel } from "../../src/load.js";
import { TextModelBuilder } from "../../src/text-model-builder.js";
import { makeCheckpoint, readExpected } from "../fixtures/architecture.js";
import { bits, differingBits, openLanguageModel } from "../model/support.js";

const TOKENS = 12;

describe("a model on two backends", () => {
  it.each(["llama", "deepseekv3", "gemma3", "gpt2", "phi2", "qwen2moe"])(
    "%s: layer by layer",
    async (name) => {
      const directory = await makeCheckpoint(name);
      const ids = (await readExpected(name)).inputIds.subarray(0, TOKENS);
      const wanted = bits(await (await openLanguageModel(directory)).model.logits(ids));
      const opened = await openModel(directory);
      const { program } = opened;
      await opened.checkpoint.close();
      const fast = await wasm();
      for (const parity of [0, 1]) {
        const onSecond = (weight: number) => {
          const { layer } = program.weights[weight];
          return layer === null ? parity === 1 : layer % 2 === parity;
        };
        expect(splitProgram(program, onSecond).length).toBeGreaterThan(1);
        const backend = splitBackend(reference(), fast, onSecond);
        const { model } = await openLanguageModel(directory, { backend, cachePositions: 64 });
        for (const stepRows of [TOKENS, 5, 1]) {
          expect(differingBits(await model.logits(ids, { stepRows }), wanted)).toBe(0);
        }
        await model.dispose();
      }
      fast.dispose();
    },
  );

  it("a device that is not there is an error that says so", async () => {
    const builder = new TextModelBuilder("models/tiny-mistral").withTopology([
      { layers: { start: 0, end: 1 }, device: "webgpu[77]" },
    ]);
    await expect(builder.build()).rejects.toMatchObject({ tag: "backend/unavailable" });
    expect(() => new TextModelBuilder("models/tiny-mistral").withDevice("cuda[0]")).toThrow("no device");
  });
});
