/**
 * What we collect against what goes into llama.cpp's own products of the same model and text, seen through the callback that
 * its llama-imatrix collects with (the program itself is not among the published binaries).
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { wasm } from "../../src/backends/wasm.js";
import { collectImportance } from "../../src/calibrate.js";
import { chunkTokens } from "../../src/chunks.js";
import { joinEntries } from "../../src/importance.js";
import { openModel } from "../../src/load.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { openTokenizer } from "../../src/model/tokenizer.js";
import { openDirectory } from "../../src/node/directory.js";
import { placeModel } from "../../src/place.js";
import { plan } from "../../src/plan.js";
import { toGguf } from "../gguf-support.js";
import { type LlamaModel, openLlama } from "./llama.js";

/** As llama-imatrix adds up: squares in binary32, and rows. */
function collectByLlama(model: LlamaModel, chunks: readonly (readonly number[])[]) {
  const entries = new Map<string, { sums: Float32Array; count: number }>();
  for (const chunk of chunks) {
    model.observe(chunk, (weight, inputs, columns) => {
      const entry = entries.get(weight) ?? { sums: new Float32Array(columns), count: 0 };
      entries.set(weight, entry);
      entry.count += inputs.length / columns;
      for (let i = 0; i < inputs.length; i++) entry.sums[i % columns] += Math.fround(inputs[i] * inputs[i]);
    });
  }
  return entries;
}

test("every column of every weight of tiny-mistral agrees", async () => {
  const opened = await openModel(await openDirectory("models/tiny-mistral"));
  const { program, checkpoint, sourceOf } = opened;
  const tokenizer = await openTokenizer(opened.directory, opened.config);
  const text = readFileSync("models/text/calibration.txt", "utf8").slice(0, 5000);
  const ids = tokenizer.encode(text, { addSpecialTokens: false });
  const cut = chunkTokens(ids, tokenizer.beginToken, { chunkTokens: 127, maxChunks: 2 });
  const chunks = cut.map(({ tokens }) => tokens);

  const folder = mkdtempSync(join(tmpdir(), "isq-llama-"));
  const file = join(folder, "model.gguf");
  writeFileSync(file, await toGguf(opened, { dense: "F32" }));
  const model = (await openLlama()).load(file);
  const theirs = collectByLlama(model, chunks);
  model.free();
  rmSync(folder, { recursive: true });

  const backend = await wasm();
  const session = await backend.open(program, { cachePositions: 512 });
  await placeModel(plan(program, sourceOf, { type: null }), checkpoint, backend, session);
  await checkpoint.close();
  const language = new LanguageModel(program, session, { cachePositions: 512 });
  const collected = await collectImportance(language, chunks, 127);
  const ours = joinEntries(collected.entries, program, "gguf");

  expect([...ours.keys()].sort()).toEqual([...theirs.keys()].sort());
  let worst = 0;
  for (const [name, { sums, counts }] of ours) {
    const { sums: expected, count } = theirs.get(name)!;
    expect([name, counts]).toEqual([name, [count]]);
    const mean = expected.reduce((sum, value) => sum + value, 0) / expected.length;
    sums.forEach((sum, i) => {
      worst = Math.max(worst, Math.abs(sum - expected[i]) / Math.max(expected[i], mean * 1e-3));
    });
  }
  // Their exponential function differs, and the order of their sums; 7e-6 was seen.
  expect(worst).toBeLessThan(5e-5);
});
