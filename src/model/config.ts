/** config.json: which architecture it is, and the fields that decoders of the llama family share. */

import type { Activation } from "../backends/program.js";
import { LIMITS } from "../limits.js";
import type { NormStyle } from "./builder.js";
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
  readObject,
} from "./fields.js";
import { parseRope, type RopeDefaults, type RopeScaling } from "./rope.js";

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
  /** Elements of each head that are rotated, the first ones. */
  readonly rotaryWidth: number;
  readonly vocabulary: number;
  /** Positions. */
  readonly contextLength: number;
  readonly norm: NormStyle;
  readonly activation: Activation;
  readonly rope: RopeScaling;
  readonly tiedHead: boolean;
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
}

/** What an architecture has where a config says nothing, and where it has its fields under other names. */
export interface DecoderDefaults {
  /** Field of the norms' epsilon, `rms_norm_eps` when absent, and its value, 1e-6 when absent. */
  readonly epsilonField?: string;
  readonly epsilon?: number;
  /** RMS when absent. */
  readonly norm?: NormStyle["kind"];
  /** Added to the weights of RMS norms. */
  readonly normOffset?: number;
  /** Field of the activation, `hidden_act` when absent, and its value, silu when absent. */
  readonly activationField?: string;
  readonly activation?: ActivationName;
  /** hidden_size / heads when absent. */
  readonly headWidth?: number;
  readonly rotaryFraction?: number;
  readonly tiedHead?: boolean;
  readonly rope?: RopeDefaults;
}

/** The names of transformers, of which several mean the same. */
const ACTIVATIONS = {
  silu: "silu",
  swish: "silu",
  gelu: "geluErf",
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  gelu_fast: "geluTanh",
} as const satisfies Record<string, Activation>;
export type ActivationName = keyof typeof ACTIVATIONS;

/** What fields may hold. */
export const RANGES = {
  width: { minimum: 1, maximum: LIMITS.configWidth },
  heads: { minimum: 1, maximum: LIMITS.configHeads },
  layers: { minimum: 1, maximum: LIMITS.configLayers },
  experts: { minimum: 1, maximum: LIMITS.configExperts },
  vocabulary: { minimum: 1, maximum: LIMITS.configVocabulary },
  positions: { minimum: 1, maximum: LIMITS.configContext },
  epsilon: { minimum: 1e-30, maximum: 1 },
  scale: { minimum: 1e-9, maximum: 1e9 },
  token: { minimum: 0, maximum: LIMITS.configVocabulary },
} as const satisfies Record<string, NumberRange>;

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
 * Throws `config/missing` and `config/invalid`. Defaults are those of transformers' LlamaConfig, or the given ones.
 */
export function readDecoderConfig(fields: Fields, defaults: DecoderDefaults = {}): DecoderConfig {
  const hiddenWidth = readInteger(fields, "hidden_size", RANGES.width);
  const heads = readInteger(fields, "num_attention_heads", RANGES.heads);
  const kvHeads = readInteger(fields, "num_key_value_heads", RANGES.heads, heads);
  if (heads % kvHeads !== 0) {
    throw invalidField(fields, "num_key_value_heads", kvHeads, `a divisor of ${heads} heads`);
  }
  const headWidth = readHeadWidth(fields, hiddenWidth, heads, defaults.headWidth);
  return {
    hiddenWidth,
    intermediateWidth: readInteger(fields, "intermediate_size", RANGES.width),
    layers: readInteger(fields, "num_hidden_layers", RANGES.layers),
    heads,
    kvHeads,
    headWidth,
    rotaryWidth: readRotaryWidth(fields, headWidth, defaults.rotaryFraction),
    vocabulary: readInteger(fields, "vocab_size", RANGES.vocabulary),
    contextLength: readInteger(fields, "max_position_embeddings", RANGES.positions),
    norm: readNorm(fields, defaults),
    activation: readActivation(fields, defaults.activationField ?? "hidden_act", defaults.activation),
    rope: parseRope(fields, defaults.rope),
    tiedHead: readBoolean(fields, "tie_word_embeddings", defaults.tiedHead ?? false),
    attentionBias: readBoolean(fields, "attention_bias", false),
    mlpBias: readBoolean(fields, "mlp_bias", false),
  };
}

/** The style of the norms. Throws `config/invalid`. */
export function readNorm(fields: Fields, defaults: DecoderDefaults): NormStyle {
  const { norm: kind = "rms", normOffset: offset, epsilonField = "rms_norm_eps" } = defaults;
  const epsilon = readNumber(fields, epsilonField, RANGES.epsilon, defaults.epsilon ?? 1e-6);
  if (kind === "layer") return { kind, epsilon };
  return { kind, epsilon, ...(offset !== undefined && { offset }) };
}

/** An activation by its name in transformers. Throws `config/invalid`. */
export function readActivation(fields: Fields, name: string, fallback: ActivationName = "silu"): Activation {
  return ACTIVATIONS[readChoice(fields, name, Object.keys(ACTIVATIONS) as ActivationName[], fallback)];
}

/** `head_dim`, which may be null or absent: then `fallback`, or hidden_size / heads. */
function readHeadWidth(fields: Fields, hiddenWidth: number, heads: number, fallback?: number): number {
  const isStated = fieldValue(fields, "head_dim") !== undefined || fallback !== undefined;
  if (!isStated && hiddenWidth % heads !== 0) {
    throw invalidField(fields, "num_attention_heads", heads, `a divisor of hidden_size ${hiddenWidth}`);
  }
  const headWidth = readInteger(fields, "head_dim", RANGES.width, fallback ?? hiddenWidth / heads);
  if (headWidth % 2 !== 0) throw invalidField(fields, "head_dim", headWidth, "even");
  if (headWidth * heads > LIMITS.configWidth) {
    throw invalidField(fields, "head_dim", headWidth, `at most ${LIMITS.configWidth} / ${heads} heads`);
  }
  return headWidth;
}

/** `partial_rotary_factor` of the head's width, among the rope parameters (newer) or beside them. */
function readRotaryWidth(fields: Fields, headWidth: number, fallback = 1): number {
  const name = "partial_rotary_factor";
  const rope = readObject(fields, "rope_parameters") ?? fields;
  const owner = fieldValue(rope, name) === undefined ? fields : rope;
  const fraction = readNumber(owner, name, { minimum: 1e-6, maximum: 1 }, fallback);
  const width = Math.floor(headWidth * fraction);
  if (width > 0 && width % 2 === 0) return width;
  throw invalidField(owner, name, fraction, `an even part of a head of ${headWidth}`);
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
    Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) <= RANGES.token.maximum;
  if (isRecord(value) || !list.every(inRange)) {
    throw invalidField(fields, name, value, `token ids up to ${RANGES.token.maximum}`);
  }
  return list as number[];
}
