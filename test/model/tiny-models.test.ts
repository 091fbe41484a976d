/**
 * The two trained models against what transformers gave in binary32: likelihoods of texts, on a backend with
 * the reference's bits, and a continuation.
 */

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Backend } from "../../src/backends/backend.js";
import { reference } from "../../src/backends/reference.js";
import { threads } from "../../src/backends/threads.js";
import { wasm } from "../../src/backends/wasm.js";
import { chunkTokens } from "../../src/chunks.js";
import { tokenLosses } from "../../src/measure.js";
import type { LanguageModel } from "../../src/model/language-model.js";
import { openTokenizer, type Tokenizer } from "../../src/model/tokenizer.js";
import { openDirectory } from "../../src/node/directory.js";
import { openLanguageModel } from "./support.js";

/** All chunks of both texts in the slow suite, else the first two of the first. */
const SLOW = process.env["ISQ_SLOW"] === "1";
const TEXTS = SLOW ? (["eval", "calibration"] as const) : (["eval"] as const);

const MODELS = ["tiny-mistral", "tiny-mixtral"] as const;

describe.each(MODELS)("%s", (name) => {
  const folder = `models/${name}`;
  const expected = JSON.parse(readFileSync(`${folder}/reference.json`, "utf8"));
  let backend: Backend;
  let tokenizer: Tokenizer;
  let model: LanguageModel;
  let plain: LanguageModel;
  beforeAll(async () => {
    const directory = await openDirectory(folder);
    tokenizer = await openTokenizer(directory);
    backend = SLOW ? await threads() : await wasm();
    ({ model } = await openLanguageModel(directory, { backend }));
    ({ model: plain } = await openLanguageModel(directory, { backend: reference() }));
  });
  afterAll(() => backend?.dispose());

  test.each(TEXTS)("likelihood of each chunk of %s to 1e-3 nats", async (text) => {
    const { tokens, chunk_nll: likelihoods } = expected[text];
    const content = readFileSync(`models/text/${text}.txt`, "utf8");
    const ids = tokenizer.encode(content, { addSpecialTokens: false });
    expect(ids).toHaveLength(tokens);
    const chunks = chunkTokens(ids, tokenizer.beginToken).map(({ tokens }) => tokens);
    expect(chunks).toHaveLength(likelihoods.length);
    let worst = 0;
    for (const [index, chunk] of chunks.slice(0, SLOW ? chunks.length : 2).entries()) {
      const losses = tokenLosses(await model.logits(chunk), chunk, model.program.vocabulary);
      const mean = losses.reduce((a, b) => a + b) / losses.length;
      worst = Math.max(worst, Math.abs(mean - likelihoods[index]));
    }
    expect(worst).toBeLessThan(1e-3);
    if (SLOW) console.log(`${name}, ${text}: ${chunks.length} chunks, at most ${worst} nats apart`);
  });

  test("continues greedily as the reference, in plain TypeScript", async () => {
    const { prompt, ids: all, text } = expected.greedy;
    const start = tokenizer.encode(prompt);
    expect(start).toEqual(all.slice(0, start.length));
    const rest = all.slice(start.length);
    const tokens = await plain.generate(start, { maxTokens: rest.length });
    expect(tokens).toEqual(rest);
    expect(tokenizer.decode([...start, ...tokens])).toBe(text);
  });
});
