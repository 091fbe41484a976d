import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { isIsqError } from "../../src/errors.js";
import { ARCHITECTURE_NAMES, ARCHITECTURES, findArchitecture } from "../../src/model/architectures/index.js";
import { parseConfig } from "../../src/model/config.js";
import { LanguageModel } from "../../src/model/language-model.js";
import { makeCheckpoint, readExpected } from "../fixtures/architecture.js";
import {
  bits,
  CONTINUED,
  differingBits,
  largestDifference,
  openLanguageModel,
  PROMPT_TOKENS,
} from "./support.js";

const FIXTURES = readdirSync(new URL("../fixtures/architectures", import.meta.url));
describe.each(FIXTURES)("%s", (name) => {
  const opened = makeCheckpoint(name).then((directory) => openLanguageModel(directory));

  test("gives the logits of the float64 reference to 1e-4", async () => {
    const { model } = await opened;
    const { inputIds, logits, shapes } = await readExpected(name);
    const [rows, columns] = shapes.inputIds;
    const width = columns * model.program.vocabulary;
    for (let row = 0; row < rows; row++) {
      const own = await model.logits(inputIds.subarray(row * columns, (row + 1) * columns));
      const difference = largestDifference(own, logits.subarray(row * width, (row + 1) * width));
      expect(difference).toBeLessThan(1e-4);
    }
  });

  test("continues greedily as the reference does", async () => {
    const { model } = await opened;
    const { greedy } = await readExpected(name);
    const prompt = greedy.subarray(0, PROMPT_TOKENS);
    const tokens = await model.generate(prompt, { maxTokens: greedy.length - PROMPT_TOKENS });
    const compared = (CONTINUED[name] ?? greedy.length) - PROMPT_TOKENS;
    expect(tokens.slice(0, compared)).toEqual([...greedy.subarray(PROMPT_TOKENS)].slice(0, compared));
    expect(tokens).toHaveLength(greedy.length - PROMPT_TOKENS);
  });

  test("gives the same bits in one piece, in chunks and token by token", async () => {
    const { model } = await opened;
    const { inputIds, shapes } = await readExpected(name);
    const tokens = inputIds.subarray(0, shapes.inputIds[1]);
    const whole = bits(await model.logits(tokens, { stepRows: tokens.length }));
    for (const stepRows of [1, 33]) {
      expect(differingBits(await model.logits(tokens, { stepRows }), whole)).toBe(0);
    }
  });
});

test("long and short prompts of phi3 share no cache, and each is as if it were alone", async () => {
  const { model, session } = await openLanguageModel(await makeCheckpoint("phi3"), { cachePositions: 256 });
  const sharing = new LanguageModel(model.program, session, { cachePositions: 256, reusePrefixes: true });
  const { inputIds } = await readExpected("phi3");
  const prompts = [32, 33, 48].map((length) => inputIds.subarray(0, length));
  const alone: number[][] = [];
  for (const prompt of prompts) alone.push(await model.generate(prompt, { maxTokens: 12 }));
  for (const round of [0, 1]) {
    for (const [i, prompt] of prompts.entries()) {
      expect([round, ...(await sharing.generate(prompt, { maxTokens: 12 }))]).toEqual([round, ...alone[i]]);
    }
  }
});

test("the rest of phi3's greedy tokens are what each token gives all by itself", async () => {
  const { model } = await openLanguageModel(await makeCheckpoint("phi3"));
  const { greedy } = await readExpected("phi3");
  for (let i = CONTINUED["phi3"]; i < greedy.length; i++) {
    expect(await model.generate([greedy[i - 1]], { maxTokens: 1 })).toEqual([greedy[i]]);
  }
});

describe("the table of architectures", () => {
  const config = (fields: object) => parseConfig(JSON.stringify(fields));

  test("finds by class, by model type and by name", () => {
    expect(
      findArchitecture(config({ architectures: ["MistralForCausalLM"], model_type: "llama" })).name,
    ).toBe("mistral");
    expect(findArchitecture(config({ architectures: ["Unheard"], model_type: "llama" })).name).toBe("llama");
    expect(findArchitecture(config({ model_type: "mistral" })).name).toBe("mistral");
    expect(findArchitecture(config({ model_type: "unheard" }), "Llama").name).toBe("llama");
  });

  test("refuses unknown ones, listing the known", () => {
    for (const [fields, name] of [
      [{}],
      [{ model_type: "unheard" }],
      [{ model_type: "llama" }, "unheard"],
    ] as const) {
      try {
        findArchitecture(config(fields), name);
        expect.unreachable();
      } catch (error) {
        expect(isIsqError(error, "architecture/unknown")).toBe(true);
        for (const known of ARCHITECTURE_NAMES) expect(String(error)).toContain(known);
      }
    }
  });

  test("has no name twice", () => {
    const all = ARCHITECTURES.flatMap(({ name, classNames, modelTypes }) => [[name], classNames, modelTypes]);
    for (const names of [0, 1, 2].map((kind) => all.filter((_, i) => i % 3 === kind).flat())) {
      expect(new Set(names).size).toBe(names.length);
    }
  });
});
