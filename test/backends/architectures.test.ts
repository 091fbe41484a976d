/** Every architecture on the fast backends: the reference's bits, which are within 1e-4 of the expected logits. */

import { readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Backend } from "../../src/backends/backend.js";
import { reference } from "../../src/backends/reference.js";
import { threads } from "../../src/backends/threads.js";
import { wasm } from "../../src/backends/wasm.js";
import type { Directory } from "../../src/files/directory.js";
import { openModel } from "../../src/load.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { createSampler } from "../../src/model/sampler.js";
import { placeModel } from "../../src/place.js";
import { plan } from "../../src/plan.js";
import type { TopologyRule } from "../../src/topology.js";
import { makeCheckpoint, readExpected } from "../fixtures/architecture.js";
import {
  bits,
  CONTINUED,
  differingBits,
  largestDifference,
  openLanguageModel,
  PROMPT_TOKENS,
} from "../model/support.js";

const FIXTURES = readdirSync(new URL("../fixtures/architectures", import.meta.url));
/** Between them they have every operation, and every way in which columns are shared out. */
const ON_THREADS = ["deepseekv3", "gemma3", "gpt2", "granite", "olmo2", "phi3", "phi3.5moe", "qwen2moe"];
const TOKENS = 40;

const cases = FIXTURES.map((name) => {
  let directory: Promise<Directory> | undefined;
  let wanted: Promise<Uint32Array> | undefined;
  const open = () => (directory ??= makeCheckpoint(name));
  const tokens = async () => (await readExpected(name)).inputIds.subarray(0, TOKENS);
  const onReference = async () => {
    const { model } = await openLanguageModel(await open());
    return bits(await model.logits(await tokens()));
  };
  return { name, open, tokens, wanted: () => (wanted ??= onReference()) };
});

/** Logits in one piece, in pieces of 7, and token by token. */
async function compare(backend: Backend, { open, tokens, wanted }: (typeof cases)[number]) {
  const { model } = await openLanguageModel(await open(), { backend, cachePositions: 64 });
  const ids = await tokens();
  for (const stepRows of [TOKENS, 7, 1]) {
    const logits = await model.logits(ids, { stepRows });
    expect(differingBits(logits, await wanted())).toBe(0);
  }
  await model.dispose();
}

describe("wasm", () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await wasm();
  });
  afterAll(() => backend?.dispose());

  test.each(cases)("$name", (model) => compare(backend, model));

  test.each(FIXTURES)(
    "%s gives the expected logits to 1e-3, and the expected greedy tokens",
    async (name) => {
      const { inputIds, logits, greedy, shapes } = await readExpected(name);
      const { model } = await openLanguageModel(await makeCheckpoint(name), { backend });
      const columns = shapes.inputIds[1];
      const own = await model.logits(inputIds.subarray(0, columns));
      expect(largestDifference(own, logits.subarray(0, own.length))).toBeLessThan(1e-3);
      const compared = CONTINUED[name] ?? greedy.length;
      const options = {
        maxTokens: compared - PROMPT_TOKENS,
        sampler: createSampler({}, backend.logitKernels),
      };
      const tokens = await model.generate(greedy.subarray(0, PROMPT_TOKENS), options);
      expect(tokens).toEqual([...greedy.subarray(PROMPT_TOKENS, compared)]);
      await model.dispose();
    },
  );
});

test("experts of one layer may have types of their own, on every backend", async () => {
  const topology: TopologyRule[] = [
    { pattern: /experts\.0\./, isq: "Q2K" },
    { pattern: /experts\.1\.w1/, isq: "HQQ8" },
    { pattern: /experts\.2\./, isq: "none" },
  ];
  const open = async (backend: Backend) => {
    const opened = await openModel(await makeCheckpoint("mixtral"));
    const session = await backend.open(opened.program, { cachePositions: 64 });
    const decided = plan(opened.program, opened.sourceOf, { type: "Q8_0", organization: "moqe", topology });
    await placeModel(decided, opened.checkpoint, backend, session);
    return new LanguageModel(opened.program, session, { cachePositions: 64 });
  };
  const ids = (await readExpected("mixtral")).inputIds.subarray(0, TOKENS);
  const wanted = bits(await (await open(reference())).logits(ids));
  for (const backend of [await wasm(), await threads({ workers: 2 })]) {
    expect(differingBits(await (await open(backend)).logits(ids), wanted)).toBe(0);
    await backend.dispose();
  }
});

test("experts see the rows that were routed to them, and observers the same sums on every backend", async () => {
  const directory = await makeCheckpoint("mixtral");
  const ids = (await readExpected("mixtral")).inputIds.subarray(0, TOKENS);
  const observe = async (backend: Backend) => {
    const { model, session } = await openLanguageModel(directory, { backend, cachePositions: 64 });
    const observation = (await session.observe!(true))!;
    await model.logits(ids, { stepRows: 11 });
    const inputs = model.program.weights.map(({ name }, i) => ({ name, input: observation[i] }));
    return new Map(inputs.flatMap(({ name, input }) => (input ? [[name, input] as const] : [])));
  };
  const wanted = await observe(reference());
  const w1 = [0, 1, 2, 3].map((e) => wanted.get(`model.layers.0.block_sparse_moe.experts.${e}.w1.weight`)!);
  expect(w1.reduce((sum, { rows }) => sum + rows[0], 0)).toBe(2 * TOKENS);
  expect(w1.every(({ rows }) => rows[0] < TOKENS)).toBe(true);
  for (const backend of [await wasm(), await threads({ workers: 3 })]) {
    const own = await observe(backend);
    expect([...own.keys()]).toEqual([...wanted.keys()]);
    for (const [name, { squares, rows }] of own) {
      expect(rows[0]).toBe(wanted.get(name)!.rows[0]);
      expect(squares.every((sum, i) => sum === wanted.get(name)!.squares[i])).toBe(true);
    }
    await backend.dispose();
  }
});

describe.each([2, 5])("%i threads", (workers) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await threads({ workers });
  });
  afterAll(() => backend?.dispose());

  test.each(cases.filter(({ name }) => ON_THREADS.includes(name)))("$name", (model) =>
    compare(backend, model),
  );
});
