/** config.json: which architecture it is, and the fields that decoders of the llama family share. */

import { LIMITS } from "../limits.js";
import {
  type Fields,
  fieldValue,
  invalidField,
  isRecord,
  type NumberRange,
  parseFields,
  readBoolean,
  readChoice,
  readInteger,
  readNumber,
} from "./fields.js";
import { parseRope, type RopeScaling } from "./rope.js";

/** A parsed config.json before any architecture has looked at it. */
export interface ModelConfig {
  readonly fields: Fields;
  /** `architectures[0]`, for example `LlamaForCausalLM`. */
  readonly className: string | null;
  /** `model_type`, for example `llama`. */
  readonly modelType: string | null;
  /** `bos_token_id`. */
  readonly beginToken: number | null;
  /** `eos_token_id`, which may be one or several. */
  readonly endTokens: readonly number[];
}

/** What a llama-like decoder needs; widths in elements. */
export interface DecoderConfig {
  readonly hiddenWidth: number;
  readonly intermediateWidth: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly vocabulary: number;
  /** Positions. */
  readonly contextLength: number;
  readonly epsilon: number;
  readonly activation: "silu";
  readonly rope: RopeScaling;
  /** Positions a query sees, its own included; null: all before. */
  readonly slidingWindow: number | null;
  readonly tiedHead: boolean;
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
}

const WIDTH: NumberRange = { minimum: 1, maximum: LIMITS.configWidth };
const HEADS: NumberRange = { minimum: 1, maximum: LIMITS.configHeads };
const LAYERS: NumberRange = { minimum: 1, maximum: LIMITS.configLayers };
const VOCABULARY: NumberRange = { minimum: 1, maximum: LIMITS.configVocabulary };
const POSITIONS: NumberRange = { minimum: 1, maximum: LIMITS.configContext };
const EPSILON: NumberRange = { minimum: 1e-30, maximum: 1 };
const TOKEN: NumberRange = { minimum: 0, maximum: LIMITS.configVocabulary };

/** Parses the text of a config.json. Throws `config/invalid`; `file` names it in errors. */
export function parseConfig(text: string, file = "config.json"): ModelConfig {
  const fields = parseFields(text, file);
  return {
    fields,
    className: readFirstClass(fields),
    modelType: readText(fields, "model_type"),
    beginToken: readTokens(fields, "bos_token_id")[0] ?? null,
    endTokens: readTokens(fields, "eos_token_id"),
  };
}

/**
 * Reads the fields of a llama-like decoder, older (`rope_theta`, `rope_scaling`) or newer (`rope_parameters`) style.
 * Throws `config/missing` and `config/invalid`. Defaults are those of transformers' LlamaConfig.
 */
export function readDecoderConfig(fields: Fields): DecoderConfig {
  const hiddenWidth = readInteger(fields, "hidden_size", WIDTH);
  const heads = readInteger(fields, "num_attention_heads", HEADS);
  const kvHeads = readInteger(fields, "num_key_value_heads", HEADS, heads);
  if (heads % kvHeads !== 0) {
    throw invalidField(fields, "num_key_value_heads", kvHeads, `a divisor of ${heads} heads`);
  }
  const headWidth = readHeadWidth(fields, hiddenWidth, heads);
  return {
    hiddenWidth,
    intermediateWidth: readInteger(fields, "intermediate_size", WIDTH),
    layers: readInteger(fields, "num_hidden_layers", LAYERS),
    heads,
    kvHeads,
    headWidth,
    vocabulary: readInteger(fields, "vocab_size", VOCABULARY),
    contextLength: readInteger(fields, "max_position_embeddings", POSITIONS),
    epsilon: readNumber(fields, "rms_norm_eps", EPSILON, 1e-6),
    activation: readChoice(fields, "hidden_act", ["silu"], "silu"),
    rope: parseRope(fields),
    slidingWindow: null,
    tiedHead: readBoolean(fields, "tie_word_embeddings", false),
    attentionBias: readBoolean(fields, "attention_bias", false),
    mlpBias: readBoolean(fields, "mlp_bias", false),
  };
}

/** `sliding_window`: positions seen, or null. */
export function readSlidingWindow(fields: Fields): number | null {
  return fieldValue(fields, "sliding_window") === undefined
    ? null
    : readInteger(fields, "sliding_window", POSITIONS);
}

/** `head_dim`, which may be null or absent (hidden_size / heads). */
function readHeadWidth(fields: Fields, hiddenWidth: number, heads: number): number {
  if (fieldValue(fields, "head_dim") === undefined && hiddenWidth % heads !== 0) {
    throw invalidField(fields, "num_attention_heads", heads, `a divisor of hidden_size ${hiddenWidth}`);
  }
  const headWidth = readInteger(fields, "head_dim", WIDTH, hiddenWidth / heads);
  if (headWidth % 2 !== 0) throw invalidField(fields, "head_dim", headWidth, "even");
  if (headWidth * heads > LIMITS.configWidth) {
    throw invalidField(fields, "head_dim", headWidth, `at most ${LIMITS.configWidth} / ${heads} heads`);
  }
  return headWidth;
}

function readFirstClass(fields: Fields): string | null {
  const value = fieldValue(fields, "architectures");
  if (value === undefined) return null;
  if (!Array.isArray(value) || !value.every((name) => typeof name === "string")) {
    throw invalidField(fields, "architectures", value, "a list of names");
  }
  return value[0] ?? null;
}

function readText(fields: Fields, name: string): string | null {
  const value = fieldValue(fields, name);
  if (value === undefined) return null;
  if (typeof value !== "string") throw invalidField(fields, name, value, "a string");
  return value;
}

/** Token ids given as one number or a list. Also for generation_config.json. */
export function readTokens(fields: Fields, name: string): readonly number[] {
  const value = fieldValue(fields, name);
  if (value === undefined) return [];
  const list = Array.isArray(value) ? value : [value];
  const inRange = (id: unknown) =>
    Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) <= TOKEN.maximum;
  if (isRecord(value) || !list.every(inRange)) {
    throw invalidField(fields, name, value, `token ids up to ${TOKEN.maximum}`);
  }
  return list as number[];
}
