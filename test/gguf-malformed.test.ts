/** GGUF files that are well-formed and lie about their model, its tokenizer, its chat template or its values. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { openGguf } from "../src/files/gguf.js";
import { fromBytes } from "../src/files/source.js";
import { openGgufCheckpoint } from "../src/gguf-checkpoint.js";
import { compileModel } from "../src/model/architectures/index.js";
import { renderChat } from "../src/model/chat.js";
import { tokenizerOfMetadata } from "../src/model/gguf/tokenizer-read.js";
import { createTokenizer } from "../src/model/tokenizer.js";
import { dequantize, quantize } from "../src/quants/index.js";
import { ggufDirectory } from "./gguf-support.js";
import { expectBounded } from "./suites/bounded.js";

const FOLDER = "test/malformed/gguf-model";
const expected: Record<string, string> = JSON.parse(readFileSync(`${FOLDER}/expected.json`, "utf8"));

/** What is done with a file of each kind. */
const USES: Record<string, (bytes: Uint8Array) => Promise<unknown>> = {
  async g19(bytes) {
    const { config } = await openGgufCheckpoint(ggufDirectory(bytes), "model.gguf");
    return compileModel(config);
  },
  async g20(bytes) {
    return (await tokenizerOf(bytes)).encode("ab");
  },
  async g21(bytes) {
    return renderChat(await tokenizerOf(bytes), [{ role: "user", content: "hello" }]);
  },
  async g22(bytes) {
    const file = await openGguf(fromBytes(bytes));
    const data = await file.read("t0.weight");
    const values = dequantize({ type: "Q8_0", algorithm: "ggml", shape: [1, 32], data });
    return quantize("Q4_0", values, { shape: [1, 32] });
  },
};

async function tokenizerOf(bytes: Uint8Array) {
  const { metadata } = await openGguf(fromBytes(bytes));
  const { tokenizerJson, settingsJson, defaults } = tokenizerOfMetadata(metadata, "model.gguf")!;
  return createTokenizer(tokenizerJson, settingsJson, defaults);
}

test.each(Object.entries(expected))("%s: %s", async (name, tag) => {
  const bytes = new Uint8Array(readFileSync(`${FOLDER}/${name}`));
  const use = USES[name.slice(0, 3)];
  await expectBounded(20, async () => {
    if (tag === "ok") await expect(use(bytes)).resolves.toBeDefined();
    else await expect(use(bytes)).rejects.toMatchObject({ name: "IsqError", tag });
  });
});

test("there are files of all four kinds", () => {
  const kinds = new Set(Object.keys(expected).map((name) => name.slice(0, 3)));
  expect([...kinds].sort()).toEqual(Object.keys(USES));
});
