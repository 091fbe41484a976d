/** The tokenizer of a GGUF file: the tokenizer.json that it holds, or one made of what llama.cpp reads. */

import { IsqError } from "../../errors.js";
import type { GgufMetadata } from "../../files/gguf-values.js";
import { quote } from "../../files/json.js";
import type { TokenizerDefinition } from "../tokenizer.js";
import { type Keys, metadataError, readBoolKey, readNumberKey, readTextKey } from "./keys.js";
import { PRE_TOKENIZERS, preTokenizerNamed } from "./pre-tokenizers.js";
import { JSON_KEY, TOKEN_TYPES } from "./tokenizer-write.js";

/**
 * Arguments for createTokenizer, or null when the file has no tokenizer. Throws `gguf/metadata` for lists that do not belong
 * together, and `tokenizer/invalid` naming the kinds that are known.
 */
export function tokenizerOfMetadata(metadata: GgufMetadata, file: string): TokenizerDefinition | null {
  const keys: Keys = { file, architecture: "tokenizer.ggml", metadata };
  const model = readTextKey(file, metadata, "tokenizer.ggml.model");
  const whole = readTextKey(file, metadata, JSON_KEY);
  if (whole === undefined && (model === undefined || model === "none")) return null;
  const tokens = model === undefined || model === "none" ? [] : readTokens(keys);
  const tokenizerJson = whole === undefined ? makeJson(keys, String(model), tokens) : parseJson(whole, file);
  const template = readTextKey(file, metadata, "tokenizer.chat_template");
  const tokenAt = (name: string) => {
    const id = readNumberKey(keys, `${name}_token_id`);
    if (id === undefined || tokens.length === 0) return {};
    if (tokens[id] !== undefined) return { [`${name}_token`]: tokens[id] };
    throw metadataError(file, `tokenizer.ggml.${name}_token_id`, `is not one of ${tokens.length} tokens`, id);
  };
  return {
    tokenizerJson,
    settingsJson: { ...tokenAt("bos"), ...tokenAt("eos") },
    defaults: { file, ...(template !== undefined && { chatTemplate: template }) },
  };
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw metadataError(file, JSON_KEY, `is not JSON: ${String(cause)}`);
  }
}

function readTokens(keys: Keys): readonly string[] {
  return readTexts(keys, "tokens") ?? fail(keys, "tokens", "is missing");
}

function makeJson(keys: Keys, model: string, tokens: readonly string[]): unknown {
  const types = readNumbers(keys, "token_type", tokens.length) ?? tokens.map(() => TOKEN_TYPES.normal);
  const wrong = tokens.findIndex((token, id) => types[id] === TOKEN_TYPES.byte && !BYTE.test(token));
  if (wrong >= 0) fail(keys, "tokens", `has a byte at ${wrong} that is none`, tokens[wrong]);
  const vocab = new Map(tokens.map((token, id) => [token, id]));
  const added = tokens.flatMap((content, id) => {
    const special = types[id] === TOKEN_TYPES.control || types[id] === TOKEN_TYPES.unknown;
    if (!special && types[id] !== TOKEN_TYPES.userDefined) return [];
    const sides = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return [{ id, content, ...sides, special }];
  });
  const parts = { version: "1.0", truncation: null, padding: null, added_tokens: added };
  if (model === "gpt2") return { ...parts, ...byteLevelParts(keys, vocab) };
  if (model === "llama") return { ...parts, ...sentencePieceParts(keys, vocab, tokens) };
  const known = ["gpt2", "llama", "none"];
  const message = `${keys.file} has a tokenizer of the kind ${quote(model)}; those that are known are ${known.join(", ")}`;
  throw new IsqError("tokenizer/invalid", message, {
    ...{ file: keys.file, field: "tokenizer.ggml.model", value: model, limit: known },
  });
}

const BYTE = /^<0x[0-9A-Fa-f]{2}>$/;

function byteLevelParts(keys: Keys, vocab: ReadonlyMap<string, number>) {
  const name = readTextKey(keys.file, keys.metadata, "tokenizer.ggml.pre") ?? "gpt-2";
  const row = preTokenizerNamed(name);
  if (!row) {
    const known = PRE_TOKENIZERS.flatMap(({ names }) => names);
    const message = `${keys.file} cuts text as ${quote(name)} does; what is known is ${known.join(", ")}`;
    const details = { file: keys.file, field: "tokenizer.ggml.pre", value: name, limit: known };
    throw new IsqError("tokenizer/invalid", message, details);
  }
  const { normalizer, rules, ignoreMerges = false } = row;
  const merges = readTexts(keys, "merges") ?? fail(keys, "merges", "is missing");
  const wrong = merges.findIndex((merge) => !isMerge(merge, vocab));
  if (wrong >= 0) fail(keys, "merges", `has one at ${wrong} that is not of two tokens`, merges[wrong]);
  return {
    normalizer,
    pre_tokenizer: { type: "Sequence", pretokenizers: rules },
    post_processor: templateOf(keys, false),
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      ...BPE,
      byte_fallback: false,
      ignore_merges: ignoreMerges,
      vocab: Object.fromEntries(vocab),
      merges,
    },
  };
}

const BPE = {
  ...{ type: "BPE", dropout: null, continuing_subword_prefix: null, end_of_word_suffix: null },
  ...{ unk_token: null, fuse_unk: false },
};

function isMerge(merge: string, vocab: ReadonlyMap<string, number>): boolean {
  const at = merge.indexOf(" ", 1);
  return at > 0 && vocab.has(merge.slice(0, at)) && vocab.has(merge.slice(at + 1));
}

/** SentencePiece merges whatever pair makes the token with the highest score: here every way to make every token, by it. */
function sentencePieceParts(keys: Keys, vocab: ReadonlyMap<string, number>, tokens: readonly string[]) {
  const scores = readNumbers(keys, "scores", tokens.length) ?? fail(keys, "scores", "is missing");
  const ranked: { readonly pair: [string, string]; readonly score: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    const characters = [...token];
    if (characters.length > LONGEST) continue;
    for (let at = 1; at < characters.length; at++) {
      const pair: [string, string] = [characters.slice(0, at).join(""), characters.slice(at).join("")];
      if (pair.every((part) => vocab.has(part))) ranked.push({ pair, score: scores[id] });
    }
  }
  ranked.sort((a, b) => b.score - a.score);
  const space = readBoolKey(keys.file, keys.metadata, "tokenizer.ggml.add_space_prefix") ?? true;
  const unknown = tokens[readNumberKey(keys, "unknown_token_id") ?? -1] ?? null;
  const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
  const replace = (from: string, content: string) => ({
    type: "Replace",
    pattern: { String: from },
    content,
  });
  return {
    normalizer: {
      type: "Sequence",
      normalizers: [...(space ? [{ type: "Prepend", prepend: "▁" }] : []), replace(" ", "▁")],
    },
    pre_tokenizer: null,
    post_processor: templateOf(keys, true),
    decoder: {
      type: "Sequence",
      decoders: [replace("▁", " "), { type: "ByteFallback" }, { type: "Fuse" }, ...(space ? [strip] : [])],
    },
    model: {
      ...{ ...BPE, unk_token: unknown, fuse_unk: true, byte_fallback: true, ignore_merges: false },
      ...{ vocab: Object.fromEntries(vocab), merges: ranked.map(({ pair }) => pair) },
    },
  };
}

/** Characters of a token that merges are looked for in: a cut of each is tried, and the longest known have some 60. */
const LONGEST = 256;

/** The tokens around a text. */
function templateOf(keys: Keys, begins: boolean) {
  const { file, metadata } = keys;
  const tokens = readTokens(keys);
  const specials: Record<string, unknown> = {};
  const piece = (add: string, usual: boolean, id: string) => {
    const token = readNumberKey(keys, id);
    const adds = readBoolKey(file, metadata, `tokenizer.ggml.${add}`) ?? usual;
    if (!adds || token === undefined || tokens[token] === undefined) return [];
    const text = tokens[token];
    specials[text] = { id: text, ids: [token], tokens: [text] };
    return [{ SpecialToken: { id: text, type_id: 0 } }];
  };
  const before = piece("add_bos_token", begins, "bos_token_id");
  const after = piece("add_eos_token", false, "eos_token_id");
  const text = (id: string) => ({ Sequence: { id, type_id: 0 } });
  return {
    type: "TemplateProcessing",
    single: [...before, text("A"), ...after],
    pair: [...before, text("A"), ...after, ...before, text("B"), ...after],
    special_tokens: specials,
  };
}

function readTexts({ file, metadata }: Keys, name: string): readonly string[] | undefined {
  const key = `tokenizer.ggml.${name}`;
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  if (found.type === "array" && found.items === "string") return found.values;
  throw metadataError(file, key, "is not a list of texts");
}

function readNumbers({ file, metadata }: Keys, name: string, length: number): readonly number[] | undefined {
  const key = `tokenizer.ggml.${name}`;
  const found = metadata.get(key);
  if (found === undefined) return undefined;
  if (found.type !== "array" || found.items === "string" || found.items === "array") {
    throw metadataError(file, key, "is not a list of numbers");
  }
  if (found.values.length !== length) {
    throw metadataError(
      file,
      key,
      `has ${found.values.length} values for ${length} tokens`,
      found.values.length,
    );
  }
  return Array.from(found.values as ArrayLike<number | bigint>, Number);
}

function fail({ file }: Keys, name: string, problem: string, value?: unknown): never {
  throw metadataError(file, `tokenizer.ggml.${name}`, problem, value);
}
