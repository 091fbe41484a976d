import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { chunkTokens } from "../../src/chunks.js";
import { tokenLosses } from "../../src/measure.js";
import { openTokenizer } from "../../src/model/tokenizer.js";
import { openDirectory } from "../../src/node/directory.js";
import { openLanguageModel } from "./support.js";

const FOLDER = "models/tiny-mistral";
const expected = JSON.parse(readFileSync(`${FOLDER}/reference.json`, "utf8"));
const directory = await openDirectory(FOLDER);
const tokenizer = await openTokenizer(directory);
const { model } = await openLanguageModel(directory);

const ids = tokenizer.encode(readFileSync("models/text/eval.txt", "utf8"), { addSpecialTokens: false });
const chunks = chunkTokens(ids, tokenizer.beginToken).map(({ tokens }) => tokens);
const wanted = process.env["ISQ_SLOW"] === "1" ? [0, 1, 12, 24, 36, 48, 60, 72, 84, 96, 109] : [0, 1];

test("tokenizes the text into as many tokens as the reference", () => {
  expect(ids).toHaveLength(expected.eval.tokens);
  expect(chunks).toHaveLength(expected.eval.chunk_nll.length);
});

test.each(wanted)("likelihood of chunk %i to 1e-3 nats", async (index) => {
  const chunk = chunks[index];
  const losses = tokenLosses(await model.logits(chunk), chunk, model.program.vocabulary);
  const mean = losses.reduce((a, b) => a + b) / losses.length;
  expect(Math.abs(mean - expected.eval.chunk_nll[index])).toBeLessThan(1e-3);
});

test("continues greedily as the reference", async () => {
  const { prompt, ids: all, text } = expected.greedy;
  const start = tokenizer.encode(prompt);
  expect(start).toEqual(all.slice(0, start.length));
  const rest = all.slice(start.length);
  const tokens = await model.generate(start, { maxTokens: rest.length });
  expect(tokens).toEqual(rest);
  expect(tokenizer.decode([...start, ...tokens])).toBe(text);
});
