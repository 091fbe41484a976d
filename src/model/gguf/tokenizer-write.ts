/**
 * tokenizer.json as metadata: what llama.cpp reads of it (`tokenizer.ggml.…`), where it has the same rules, and the file
 * itself (`tokenizer.huggingface.json`, a key of GGUF's specification), which says everything.
 */

import type { GgufArray, GgufMetadata, GgufValue } from "../../files/gguf-values.js";
import { fieldValue, isRecord } from "../fields.js";
import type { Tokenizer } from "../tokenizer.js";
import { preTokenizerOf } from "./pre-tokenizers.js";

/** `tokenizer.ggml.token_type`. */
export const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** A file without a vocabulary that llama.cpp could use. */
export const NO_TOKENIZER: GgufMetadata = new Map([
  ["tokenizer.ggml.model", { type: "string", value: "none" }],
]);

export const JSON_KEY = "tokenizer.huggingface.json";

/**
 * The keys of a tokenizer for a model of so many tokens. Where llama.cpp has no rules like its, `tokenizer.ggml.model` is
 * `none` and only the file itself is there.
 */
export function tokenizerKeys(
  tokenizer: Tokenizer,
  vocabulary: number,
  endTokens: readonly number[],
): GgufMetadata {
  const { tokenizerJson } = tokenizer.definition;
  const text = (value: string): GgufValue => ({ type: "string", value });
  const known = vocabularyKeys(tokenizerJson, vocabulary);
  const keys = new Map<string, GgufValue>(known ?? NO_TOKENIZER);
  const id = (name: string, token: number | null | undefined) => {
    if (typeof token === "number") keys.set(`tokenizer.ggml.${name}`, { type: "u32", value: token });
  };
  const [end, turn] = endTokens;
  id("bos_token_id", tokenizer.beginToken);
  id("eos_token_id", end);
  id("eot_token_id", turn);
  for (const [key, value] of known ? sideKeys(tokenizer, end) : []) {
    keys.set(`tokenizer.ggml.${key}`, { type: "bool", value });
  }
  if (tokenizer.chatTemplate !== null) keys.set("tokenizer.chat_template", text(tokenizer.chatTemplate));
  keys.set(JSON_KEY, text(JSON.stringify(tokenizerJson)));
  return keys;
}

/** Whether texts get the begin and end token, and a space in front. */
function sideKeys(tokenizer: Tokenizer, end: number | undefined): [string, boolean][] {
  const plain = tokenizer.encode("a", { addSpecialTokens: false });
  const full = tokenizer.encode("a");
  const [first] = full;
  const adds = (token: number | undefined | null, at: number | undefined) =>
    full.length > plain.length && token !== null && token !== undefined && at === token;
  return [
    ["add_bos_token", adds(tokenizer.beginToken, first)],
    ["add_eos_token", adds(end, full.at(-1))],
    ["add_space_prefix", tokenizer.tokenText(plain[0]).startsWith(" ")],
  ];
}

/** Tokens, their kinds, and what merges them; null where llama.cpp has no such tokenizer. */
function vocabularyKeys(json: unknown, vocabulary: number): GgufMetadata | null {
  const file = isRecord(json) ? json : {};
  const model = isRecord(file["model"]) ? file["model"] : {};
  const { type, vocab, merges, byte_fallback: fallback } = model;
  if (type !== "BPE" || !isRecord(vocab) || !Array.isArray(merges)) return null;
  const tokens = new Array<string>(vocabulary);
  for (const [token, id] of Object.entries(vocab)) tokens[id as number] = token;
  const types = new Int32Array(vocabulary).fill(TOKEN_TYPES.normal);
  for (const added of (file["added_tokens"] ?? []) as Record<string, unknown>[]) {
    tokens[added["id"] as number] = added["content"] as string;
    types[added["id"] as number] = added["special"] ? TOKEN_TYPES.control : TOKEN_TYPES.userDefined;
  }
  if (tokens.length > vocabulary) return null; // ids that the model has no row for
  for (let id = 0; id < vocabulary; id++) {
    if (tokens[id] !== undefined) continue;
    tokens[id] = `[PAD${id}]`;
    types[id] = TOKEN_TYPES.unused;
  }
  const pairs = merges.map(pairOf);
  const common = { tokens, types, pairs };
  if (fallback === true) return sentencePieceKeys(common, model);
  const rules = preTokenizerOf(file["normalizer"], file["pre_tokenizer"]);
  if (!rules) return null;
  return new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: rules.names[0] }],
    ["tokenizer.ggml.tokens", texts(tokens)],
    ["tokenizer.ggml.token_type", { type: "array", items: "i32", values: types }],
    ["tokenizer.ggml.merges", texts(pairs.map(([a, b]) => `${a} ${b}`))],
  ]);
}

interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: Int32Array;
  readonly pairs: readonly (readonly [string, string])[];
}

/** SentencePiece's scores: the earlier a merge makes a token, the higher. */
function sentencePieceKeys(
  { tokens, types, pairs }: Vocabulary,
  model: Record<string, unknown>,
): GgufMetadata {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const scores = Float32Array.from(tokens, (_, id) => -pairs.length - id);
  for (let rank = pairs.length - 1; rank >= 0; rank--) {
    const id = ids.get(pairs[rank].join(""));
    if (id !== undefined) scores[id] = -rank;
  }
  for (const [id, token] of tokens.entries()) {
    if (/^<0x[0-9A-F]{2}>$/.test(token)) types[id] = TOKEN_TYPES.byte;
    if (types[id] === TOKEN_TYPES.byte || types[id] === TOKEN_TYPES.control) scores[id] = 0;
  }
  const unknown = fieldValue({ file: "tokenizer.json", path: "", values: model }, "unk_token");
  const unknownId = ids.get(String(unknown));
  if (unknownId !== undefined) types[unknownId] = TOKEN_TYPES.unknown;
  return new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { type: "string", value: "llama" }],
    ["tokenizer.ggml.pre", { type: "string", value: "default" }],
    ["tokenizer.ggml.tokens", texts(tokens)],
    ["tokenizer.ggml.scores", { type: "array", items: "f32", values: scores }],
    ["tokenizer.ggml.token_type", { type: "array", items: "i32", values: types }],
    ...(unknownId === undefined
      ? []
      : [["tokenizer.ggml.unknown_token_id", { type: "u32", value: unknownId }] as const]),
  ]);
}

function texts(values: readonly string[]): GgufArray {
  return { type: "array", items: "string", values };
}

/** Merges are pairs in newer files, texts with a space in older ones. */
function pairOf(merge: unknown): readonly [string, string] {
  if (Array.isArray(merge)) return [String(merge[0]), String(merge[1])];
  const text = String(merge);
  const at = text.indexOf(" ", 1);
  return [text.slice(0, at), text.slice(at + 1)];
}
