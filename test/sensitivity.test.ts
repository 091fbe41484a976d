/** What hurts most: every part alone against the plain way to find out, and proposals that hold when they are loaded. */

import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { wasm } from "../src/backends/wasm.js";
import { placeAsAsked } from "../src/calibrated-load.js";
import { chunkTokens } from "../src/chunks.js";
import { formatTopology, TextModelBuilder } from "../src/index.js";
import { openModel } from "../src/load.js";
import { LanguageModel } from "../src/model/language-model.js";
import type { IsqType } from "../src/quants/index.js";
import { measureSensitivity, type SensitivityProgress, type SensitivityResult } from "../src/sensitivity.js";
import { makeCheckpoint } from "./fixtures/architecture.js";
import { tinyModel } from "./fixtures/tiny-model.js";

const TEXT = "The database connection is not invoked by the transaction, and the table is empty.";
const TYPES: readonly IsqType[] = ["Q4_0", "Q8_0"];
const CHUNKS = { chunkTokens: 15, maxChunks: 1 };

describe("a small model", () => {
  let result: SensitivityResult;
  const told: SensitivityProgress[] = [];
  const builder = () => new TextModelBuilder(tinyModel()).withBackend("wasm");
  beforeAll(async () => {
    const options = {
      ...CHUNKS,
      types: TYPES,
      targetBits: 19,
      onProgress: (p: SensitivityProgress) => told.push(p),
    };
    result = await builder().measureSensitivity(TEXT, options);
  });

  it("has a divergence for every matrix and type, and all of them together", () => {
    expect(result.parts.map(({ name }) => name)).toHaveLength(8);
    expect(result.predictions).toBe(15);
    for (const { options } of result.parts) {
      expect(options.map(({ type }) => type)).toEqual([...TYPES, null]);
      expect(options[0].divergence).toBeGreaterThan(options[1].divergence);
      expect(options[1].divergence).toBeGreaterThan(0);
    }
    expect(told.at(-1)).toMatchObject({ done: 18, total: 18, part: "all parts", type: "Q8_0" });
  });

  it("gives the numbers of loading the model with that one tensor quantized", async () => {
    const plain = await builder().build();
    const load = async (topology: Parameters<TextModelBuilder["withTopology"]>[0]) => {
      const model = await builder().withTopology(topology).build();
      const { mean } = await model.divergenceFrom(plain, TEXT, CHUNKS);
      const { bitsPerWeight } = model.plan.totals;
      await model.dispose();
      return { divergence: mean, bitsPerWeight };
    };
    for (const name of ["down_proj", "lm_head"]) {
      const part = result.parts.find((each) => each.name.includes(name))!;
      const { divergence } = await load([{ pattern: new RegExp(name), isq: "Q4_0" }]);
      expect(part.options[0].divergence).toBeCloseTo(divergence, 12);
    }
    expect(result.uniform[0]).toMatchObject({ type: "Q4_0" });
    const everything = await load([{ pattern: /proj|lm_head/, isq: "Q4_0" }]);
    expect(result.uniform[0].divergence).toBeCloseTo(everything.divergence, 12);
    expect(result.uniform[0].bitsPerWeight).toBe(everything.bitsPerWeight);

    // What is proposed, written as a file and loaded.
    const proposal = result.proposal!;
    expect(proposal.bitsPerWeight).toBeLessThanOrEqual(19);
    const file = join(mkdtempSync(join(tmpdir(), "isq-sensitivity-")), "topology.yml");
    writeFileSync(file, formatTopology(proposal));
    const proposed = await builder().withTopologyFile(file).build();
    const { mean } = await proposed.divergenceFrom(plain, TEXT, CHUNKS);
    expect(mean).toBeCloseTo(proposal.divergence, 12);
    expect(proposed.plan.totals.bitsPerWeight).toBeCloseTo(proposal.bitsPerWeight, 12);
    await plain.dispose();
    await proposed.dispose();
  });

  it("takes embeddings in when asked to, and refuses sizes that cannot be reached", async () => {
    const options = { ...CHUNKS, types: ["Q4_0"] as const };
    const onProgress = () => {
      throw new Error("it was refused too late");
    };
    const impossible = builder().measureSensitivity(TEXT, { ...options, targetBits: 2, onProgress });
    await expect(impossible).rejects.toMatchObject({
      tag: "option/invalid",
      details: { field: "targetBits", value: 2 },
    });
    const wide = await builder().measureSensitivity(TEXT, { ...options, embeddings: true, targetBits: 8 });
    expect(wide.parts).toHaveLength(9);
    expect(wide.parts[0].options[0].divergence).toBeGreaterThan(0);
    expect(wide.proposal!.bitsPerWeight).toBeLessThanOrEqual(8);
  });
});

it("experts of a layer are one part, and tied heads cost nothing as they are", async () => {
  const backend = await wasm();
  const measure = async (name: string) => {
    const opened = await openModel(await makeCheckpoint(name));
    const session = await backend.open(opened.program, { cachePositions: 64 });
    const language = new LanguageModel(opened.program, session, { cachePositions: 64 });
    const loading = { opened, backend, session, language, tokenizer: undefined as never };
    await placeAsAsked(loading, { type: null }, null, {});
    const chunks = chunkTokens([5, 9, 77, 200, 31, 8], 1, { chunkTokens: 6 });
    const result = await measureSensitivity(loading, { type: null }, chunks, { types: ["Q4K"] });
    await language.dispose();
    return result;
  };
  const mixtral = await measure("mixtral");
  const experts = mixtral.parts.find(
    ({ name }) => name === "model.layers.1.block_sparse_moe.experts.*.w2.weight",
  )!;
  expect(experts.tensors).toHaveLength(4);
  expect(experts.layer).toBe(1);
  expect(mixtral.parts).toHaveLength(2 * (4 + 3) + 1);
  const tied = await measure("llama-tied");
  const head = tied.parts.at(-1)!;
  expect(head.options.map(({ type, bits }) => [type, bits > 0])).toEqual([
    ["Q4K", true],
    [null, false],
  ]);
  await backend.dispose();
});
