/** Tokenizers in GGUF files: llama.cpp cuts texts as tokenizer.json says, and so do we when the file has no more than it reads. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openGguf } from "../../src/files/gguf.js";
import type { GgufMetadata } from "../../src/files/gguf-values.js";
import { fromBytes } from "../../src/files/source.js";
import { type OpenedModel, openModel } from "../../src/load.js";
import { PRE_TOKENIZERS } from "../../src/model/gguf/pre-tokenizers.js";
import { tokenizerOfMetadata } from "../../src/model/gguf/tokenizer-read.js";
import { JSON_KEY, tokenizerKeys } from "../../src/model/gguf/tokenizer-write.js";
import { createTokenizer, type Tokenizer } from "../../src/model/tokenizer.js";
import { openDirectory } from "../../src/node/directory.js";
import { toGguf } from "../gguf-support.js";
import { type Llama, openLlama } from "./llama.js";

const FOLDER = "models/tiny-mistral";
/** No ½ or Ⅷ, which the library does not take for digits where tokenizers of Starcoder do. */
const TEXTS = [
  readFileSync("models/text/eval.txt", "utf8").slice(0, 20_000),
  "I'm sure THEY'RE 12345 apples, 3.14159; don't\n\n\n  indent\tand  trailing  \r\nÄpfel, naïve café — “quotes” … 你好，世界",
  " leading space",
  "x",
  "emoji 👩‍💻 and combining e\u0301 \u00a0nbsp",
  "<s> is text here, [INST] too",
];

interface Json {
  added_tokens: { id: number; content: string; special: boolean }[];
  normalizer: unknown;
  pre_tokenizer: unknown;
  post_processor: unknown;
  decoder: unknown;
  model: { vocab: Record<string, number>; merges: [string, string][]; [key: string]: unknown };
}

const readJson = (file: string) => JSON.parse(readFileSync(`${FOLDER}/${file}`, "utf8"));
const settings = readJson("tokenizer_config.json");

/** tiny-mistral's words behind the rules of another tokenizer. */
function byteLevel({ rules, normalizer, ignoreMerges = false }: (typeof PRE_TOKENIZERS)[number]): Json {
  const json: Json = readJson("tokenizer.json");
  const model = { ...json.model, ignore_merges: ignoreMerges };
  return { ...json, model, normalizer, pre_tokenizer: { type: "Sequence", pretokenizers: rules } };
}

/** tiny-mistral's merges of ASCII as SentencePiece has them, with tokens for bytes, in a vocabulary of the same size. */
function sentencePiece(prepend: boolean): Json {
  const json: Json = readJson("tokenizer.json");
  const special = ["<unk>", "<s>", "</s>"];
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const plain = (text: string) => /^[\x21-\x7eĠ]+$/.test(text);
  const spaced = (text: string) => text.replaceAll("Ġ", "▁");
  const merges = json.model.merges
    .filter(([a, b]) => plain(a) && plain(b) && (a + b).lastIndexOf("Ġ") <= 0)
    .map(([a, b]): [string, string] => [spaced(a), spaced(b)]);
  const characters = ["▁", ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))];
  const known = new Set([...special, ...bytes, ...characters]);
  const usable = merges.filter(([a, b]) => known.has(a) && known.has(b) && known.add(a + b)).slice(0, 3000);
  const tokens = [...special, ...bytes, ...new Set(usable.map(([a, b]) => a + b)), ...characters];
  const vocab = Object.fromEntries([...new Set(tokens)].map((token, id) => [token, id]));
  const sides = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const replace = (from: string, content: string) => ({
    type: "Replace",
    pattern: { String: from },
    content,
  });
  return {
    ...json,
    added_tokens: special.map((content, id) => ({ id, content, ...sides })),
    normalizer: {
      type: "Sequence",
      normalizers: [...(prepend ? [{ type: "Prepend", prepend: "▁" }] : []), replace(" ", "▁")],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        replace("▁", " "),
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prepend ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: { ...json.model, vocab, merges: usable, unk_token: "<unk>", fuse_unk: true, byte_fallback: true },
  };
}

const SUBJECTS: readonly [string, () => Json][] = [
  ...PRE_TOKENIZERS.map((row): [string, () => Json] => [row.names[0], () => byteLevel(row)]),
  ["SentencePiece with a space in front", () => sentencePiece(true)],
  ["SentencePiece", () => sentencePiece(false)],
];

let llama: Llama;
let folder: string;
let opened: OpenedModel;
beforeAll(async () => {
  llama = await openLlama();
  folder = mkdtempSync(join(tmpdir(), "isq-llama-"));
  opened = await openModel(await openDirectory(FOLDER));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** As the file of another program: without tokenizer.json inside. */
function readWithout(keys: GgufMetadata): Tokenizer {
  const bare = new Map([...keys].filter(([key]) => key !== JSON_KEY));
  const { tokenizerJson, settingsJson, defaults } = tokenizerOfMetadata(bare, "bare.gguf")!;
  return createTokenizer(tokenizerJson, settingsJson, defaults);
}

describe.each(SUBJECTS)("%s", (_name, make) => {
  test("llama.cpp, the file's tokenizer.json and what is made of its lists agree", async () => {
    const json = make();
    const normalize = (text: string) =>
      (json.normalizer as { type?: string } | null)?.type === "NFC" ? text.normalize("NFC") : text;
    const tokenizer = createTokenizer(json, settings, { beginToken: 1 });
    const keys = tokenizerKeys(tokenizer, 4096, [2]);
    expect(keys.get("tokenizer.ggml.model")).not.toEqual({ type: "string", value: "none" });
    const file = join(folder, "model.gguf");
    writeFileSync(file, await toGguf(opened, { type: "Q4_0", tokenizer: keys }));
    const model = llama.load(file);
    const made = readWithout(keys);
    const whole = tokenizerOfMetadata(keys, "whole.gguf")!;
    expect(whole.tokenizerJson).toEqual(tokenizer.definition.tokenizerJson);
    for (const text of TEXTS) {
      const expected = tokenizer.encode(text, { addSpecialTokens: false });
      expect(made.encode(text, { addSpecialTokens: false })).toEqual(expected);
      // llama.cpp does not normalize.
      expect(model.tokenize(normalize(text), { special: true })).toEqual(expected);
      expect(made.encode(text)).toEqual(tokenizer.encode(text));
      expect(made.decode(expected)).toBe(tokenizer.decode(expected));
    }
    expect([made.beginToken, made.beginText, made.endText]).toEqual([1, "<s>", "</s>"]);
    expect(made.chatTemplate).toBe(tokenizer.chatTemplate);
    model.free();
  });
});

test("its files with a vocabulary only are opened, and have the tokenizer", async () => {
  const tokenizer = createTokenizer(readJson("tokenizer.json"), settings, { beginToken: 1 });
  const keys = tokenizerKeys(tokenizer, 4096, [2]);
  const bare = new Map([...keys].filter(([key]) => key !== JSON_KEY));
  const [whole, only] = [join(folder, "whole.gguf"), join(folder, "only.gguf")];
  writeFileSync(whole, await toGguf(opened, { type: "Q4_0", tokenizer: bare }));
  llama.saveVocabulary(whole, only);
  const { tensors, metadata } = await openGguf(fromBytes(new Uint8Array(readFileSync(only))));
  expect(tensors.size).toBe(0);
  expect(readFileSync(only).length).toBeLessThan(readFileSync(whole).length / 4);
  const made = readWithout(metadata);
  const model = llama.loadVocabulary(only);
  expect(model.tokenize(TEXTS[0], { special: true })).toEqual(
    made.encode(TEXTS[0], { addSpecialTokens: false }),
  );
  model.free();
  expect(made.encode(TEXTS[0])).toEqual(tokenizer.encode(TEXTS[0]));
});
