/** Every architecture on the fast backends: the reference's bits, which are within 1e-4 of the expected logits. */

import { readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Backend } from "../../src/backends/backend.js";
import { threads } from "../../src/backends/threads.js";
import { wasm } from "../../src/backends/wasm.js";
import type { Directory } from "../../src/files/directory.js";
import { makeCheckpoint, readExpected } from "../fixtures/architecture.js";
import { bits, differingBits, largestDifference, openLanguageModel } from "../model/support.js";

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

  test.each(FIXTURES)("%s gives the expected logits to 1e-3", async (name) => {
    const { inputIds, logits, shapes } = await readExpected(name);
    const { model } = await openLanguageModel(await makeCheckpoint(name), { backend });
    const columns = shapes.inputIds[1];
    const own = await model.logits(inputIds.subarray(0, columns));
    expect(largestDifference(own, logits.subarray(0, own.length))).toBeLessThan(1e-3);
    await model.dispose();
  });
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
