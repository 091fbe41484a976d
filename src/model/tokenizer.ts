/**
 * Text to token ids and back: `tokenizer.json` through @huggingface/tokenizers, with the special tokens and the chat
 * template of `tokenizer_config.json`.
 */

import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { IsqError } from "../errors.js";
import { type Directory, readFile } from "../files/directory.js";
import { LIMITS } from "../limits.js";
import type { ModelConfig } from "./config.js";
import { type Fields, fieldsOf, fieldValue, isRecord } from "./fields.js";
import { checkTokenizerPatterns } from "./tokenizer-patterns.js";

export interface EncodeOptions {
  /** Whether the tokenizer's template adds its special tokens, such as the BOS; true when absent. */
  readonly addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leaves special tokens out; true when absent. */
  readonly skipSpecialTokens?: boolean;
}

/** Turns tokens into text as they come. */
export interface StreamDecoder {
  /** The text that became certain: characters whose bytes are not all there yet are held back. */
  push(token: number): string;
  /** What was held back; an unfinished character becomes U+FFFD. */
  flush(): string;
}

export interface Tokenizer {
  /** For error messages. */
  readonly file: string;
  /** The token in front of a text, or null when the model has none. */
  readonly beginToken: number | null;
  /** `bos_token` and `eos_token` as text, for chat templates; empty when there are none. */
  readonly beginText: string;
  readonly endText: string;
  /** Jinja source, or null. */
  readonly chatTemplate: string | null;
  /** What it was made of: another thread makes the same with {@link createTokenizer}. */
  readonly definition: TokenizerDefinition;
  /** Characters of the longest token: a text has at least its length divided by this many. */
  readonly longestToken: number;
  /** The text of one token in the middle of others, special ones included; with U+FFFD for a part of a character. */
  tokenText(token: number): string;
  /** Throws `tokenizer/invalid` for text that the vocabulary cannot express. */
  encode(text: string, options?: EncodeOptions): number[];
  /** Unknown ids give no text. */
  decode(tokens: readonly number[], options?: DecodeOptions): string;
  /** As `decode`, token by token: the pieces together are the text of all tokens, special ones left out. */
  createDecoder(): StreamDecoder;
}

/** What to take from elsewhere than the model's folder. */
export interface TokenizerSource {
  /** A folder with a tokenizer of its own. */
  readonly directory?: Directory;
  /** Name of tokenizer.json in that folder. */
  readonly file?: string;
  /** Jinja source. */
  readonly chatTemplate?: string;
}

/**
 * Reads the tokenizer of a model folder. Throws `tokenizer/missing` without a tokenizer.json and `tokenizer/invalid` when
 * a file is not what it should be.
 */
export async function openTokenizer(
  own: Directory,
  config?: ModelConfig,
  source: TokenizerSource = {},
): Promise<Tokenizer> {
  const { directory = own, file: name = "tokenizer.json" } = source;
  const file = `${directory.name}/${name}`;
  if (!(await directory.has(name))) {
    throw new IsqError("tokenizer/missing", `${directory.name} has no ${name}`, { file });
  }
  const tokenizer = await readJson(directory, name);
  const settingsIn = (await directory.has("tokenizer_config.json")) ? directory : own;
  const hasSettings = await settingsIn.has("tokenizer_config.json");
  const settings = hasSettings ? await readJson(settingsIn, "tokenizer_config.json") : {};
  const hasTemplate = await settingsIn.has("chat_template.jinja");
  const template =
    source.chatTemplate ?? (hasTemplate ? await readText(settingsIn, "chat_template.jinja") : undefined);
  return createTokenizer(tokenizer, settings, {
    file,
    beginToken: config?.beginToken ?? null,
    ...(template !== undefined && { chatTemplate: template }),
  });
}

/** The arguments of {@link createTokenizer}. */
export interface TokenizerDefinition {
  readonly tokenizerJson: unknown;
  readonly settingsJson: unknown;
  readonly defaults: TokenizerDefaults;
}

export interface TokenizerDefaults {
  /** For error messages. */
  readonly file?: string;
  /** Used when the settings do not mention `bos_token`. */
  readonly beginToken?: number | null;
  /** Takes precedence over the settings' template. */
  readonly chatTemplate?: string;
}

/** Makes a tokenizer of two parsed JSON files. Throws `tokenizer/invalid`. */
export function createTokenizer(
  tokenizerJson: unknown,
  settingsJson: unknown = {},
  defaults: TokenizerDefaults = {},
): Tokenizer {
  const { file = "tokenizer.json", beginToken = null, chatTemplate } = defaults;
  const values = guard(file, () => fieldsOf(tokenizerJson, file).values);
  checkTokenizerPatterns(values, file);
  const inner = guard(file, () => new HuggingFaceTokenizer(values, settingsJson as object));
  const settings = guard(file, () => fieldsOf(settingsJson, "tokenizer_config.json"));
  const special = specialIds(tokenizerJson);
  const beginText = specialText(settings, "bos_token");
  const idOf = (text: string) => (text === "" ? null : (inner.token_to_id(text) ?? null));
  const known = (token: number) => inner.id_to_token(token) !== undefined;
  const decodeKnown = (tokens: number[]) =>
    tokens.length === 0 ? "" : inner.decode(tokens, { clean_up_tokenization_spaces: false });
  return {
    file,
    beginToken: Object.hasOwn(settings.values, "bos_token") ? idOf(beginText) : beginToken,
    beginText,
    endText: specialText(settings, "eos_token"),
    chatTemplate: chatTemplate ?? findTemplate(settings),
    encode(text, { addSpecialTokens = true } = {}) {
      const { ids } = guard(file, () => inner.encode(text, { add_special_tokens: addSpecialTokens }));
      const lost = ids.indexOf(undefined as unknown as number);
      if (lost < 0) return ids;
      throw new IsqError("tokenizer/invalid", `${file} has no token for a part of the text`, {
        file,
        index: lost,
      });
    },
    decode(tokens, { skipSpecialTokens = true } = {}) {
      return decodeKnown(
        tokens.filter((token) => known(token) && !(skipSpecialTokens && special.has(token))),
      );
    },
    definition: { tokenizerJson, settingsJson, defaults },
    longestToken: longestOf(tokenizerJson),
    tokenText(token) {
      if (!known(token)) return "";
      // Some decoders drop the space in front of the first token of a text: here it is the second of two.
      return decodeKnown([token, token]).slice(decodeKnown([token]).length);
    },
    createDecoder() {
      return createStreamDecoder(decodeKnown, (token) => known(token) && !special.has(token));
    },
  };
}

/**
 * Decodes a growing window of tokens and hands out what is new. A trailing U+FFFD may be a character whose bytes are not
 * all there: it is held back. When nothing is held back the window moves on, keeping the last tokens as context, because
 * some decoders treat the first token of a text differently.
 */
function createStreamDecoder(
  decode: (tokens: number[]) => string,
  visible: (token: number) => boolean,
): StreamDecoder {
  let context: number[] = [];
  let fresh: number[] = [];
  let handedOut = 0; // characters of decode(context + fresh)
  const take = (text: string): string => {
    const piece = text.slice(handedOut);
    handedOut = Math.max(handedOut, text.length);
    return piece;
  };
  return {
    push(token) {
      if (!visible(token)) return "";
      fresh.push(token);
      const text = decode([...context, ...fresh]);
      if (text.endsWith("\uFFFD")) return take(text.slice(0, -1));
      const piece = take(text);
      context = fresh;
      fresh = [];
      handedOut = decode(context).length;
      return piece;
    },
    flush() {
      const piece = fresh.length === 0 ? "" : take(decode([...context, ...fresh]));
      context = [];
      fresh = [];
      handedOut = 0;
      return piece;
    },
  };
}

/** A special token of tokenizer_config.json: a string, or an object with `content`. */
function specialText(settings: Fields, name: string): string {
  const value = fieldValue(settings, name);
  const text = isRecord(value) ? value["content"] : value;
  return typeof text === "string" ? text : "";
}

/** `chat_template`: a string, or a list of named ones of which `default` is meant. */
function findTemplate(settings: Fields): string | null {
  const value = fieldValue(settings, "chat_template");
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return null;
  const found = value.filter(isRecord).find(({ name }) => name === "default");
  return typeof found?.["template"] === "string" ? found["template"] : null;
}

function longestOf(tokenizerJson: unknown): number {
  const fields = isRecord(tokenizerJson) ? tokenizerJson : {};
  const model = isRecord(fields["model"]) ? fields["model"] : {};
  const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
  const vocab = model["vocab"];
  // A map from tokens to ids, or for Unigram a list of pairs of token and score.
  const tokens = isRecord(vocab) ? Object.keys(vocab) : list(vocab).map((pair) => list(pair)[0]);
  const added = list(fields["added_tokens"]).map((token) => isRecord(token) && token["content"]);
  const lengths = [...tokens, ...added].map((token) => (typeof token === "string" ? token.length : 0));
  return lengths.reduce((most, length) => Math.max(most, length), 1);
}

function specialIds(tokenizerJson: unknown): ReadonlySet<number> {
  const added = isRecord(tokenizerJson) ? tokenizerJson["added_tokens"] : [];
  if (!Array.isArray(added)) return new Set();
  const special = added.filter(isRecord).filter((token) => token["special"] === true);
  return new Set(special.map((token) => token["id"] as number));
}

async function readText(directory: Directory, file: string): Promise<string> {
  return new TextDecoder().decode(await readFile(directory, file, LIMITS.jsonBytes));
}

async function readJson(directory: Directory, file: string): Promise<unknown> {
  const text = await readText(directory, file);
  return guard(`${directory.name}/${file}`, () => JSON.parse(text));
}

/** Turns whatever the libraries throw into `tokenizer/invalid`. */
function guard<Result>(file: string, run: () => Result): Result {
  try {
    return run();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new IsqError("tokenizer/invalid", `${file} could not be used: ${reason}`, { file }, { cause });
  }
}
