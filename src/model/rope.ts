/**
 * Rotary position embedding: the frequencies of each pair, in binary64 with the functions of math.ts.
 *
 * Scalings: none; `linear` (Chen et al., "Extending Context Window of Large Language Models via Positional
 * Interpolation", 2023); `llama3` (the rule published with Llama 3.1: long waves are divided by the factor, short ones
 * kept, those between blended); `yarn` (Peng et al., "YaRN", 2023: the same by a ramp over the pairs, and scores get a
 * temperature, which is in cosines and sines); `longrope` (Ding et al., "LongRoPE", 2024: each frequency is divided by a
 * factor of its own, from one list up to the original context and from another beyond it); `factors` (GGUF files hold the
 * result of such a rule).
 */

import type { RopeTable } from "../backends/program.js";
import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { log64, pow64 } from "../math.js";
import {
  type Fields,
  fieldValue,
  invalidField,
  missingField,
  type NumberRange,
  readBoolean,
  readChoice,
  readNumber,
  readObject,
} from "./fields.js";

const KINDS = ["default", "linear", "llama3", "yarn", "longrope", "su", "factors"] as const;

/** How frequencies are derived. Contexts are in positions. */
export type RopeScaling = { readonly theta: number } & (
  | { readonly kind: "default" }
  | { readonly kind: "linear"; readonly factor: number }
  | { readonly kind: "factors"; readonly factors: readonly number[] }
  | {
      readonly kind: "llama3";
      readonly factor: number;
      readonly lowFactor: number;
      readonly highFactor: number;
      readonly originalContext: number;
    }
  | {
      readonly kind: "yarn";
      readonly factor: number;
      readonly originalContext: number;
      /** Turns within the original context above which frequencies are kept, and below which they are divided. */
      readonly fastTurns: number;
      readonly slowTurns: number;
      /** The ends of the ramp are whole pairs. */
      readonly truncate: boolean;
      readonly magnitude: number;
      /** What latent attention multiplies the scale of its scores by, twice. */
      readonly scoreScale: number;
    }
  | {
      readonly kind: "longrope";
      readonly originalContext: number;
      readonly short: FactorList;
      readonly long: FactorList;
    }
);

interface FactorList {
  readonly factors: readonly number[];
  readonly magnitude: number;
}

/** The tables of a rotary embedding; `long` is used beyond so many positions. See `rope` in ops.ts. */
export interface RopeUse {
  readonly table: RopeTable;
  readonly long?: { readonly table: RopeTable; readonly beyond: number };
}

export interface RopeDefaults {
  /** 10000 when absent. */
  readonly theta?: number;
  /** What to read instead of the config's `rope_parameters` or `rope_scaling`. */
  readonly scaling?: Fields | null;
}

const THETA: NumberRange = { minimum: 2, maximum: 1e12 };
const FACTOR: NumberRange = { minimum: 1e-3, maximum: 1e6 };
const CONTEXT: NumberRange = { minimum: 1, maximum: LIMITS.configContext };

/**
 * Reads rope fields: `rope_parameters` (newer), else `rope_theta` and `rope_scaling` (older, kind under `rope_type` or
 * `type`). Throws `config/invalid` for a scaling that is not supported.
 */
export function parseRope(config: Fields, defaults: RopeDefaults = {}): RopeScaling {
  const newer = readObject(config, "rope_parameters");
  const scaling =
    defaults.scaling === undefined ? (newer ?? readObject(config, "rope_scaling")) : defaults.scaling;
  const olderTheta = readNumber(config, "rope_theta", THETA, defaults.theta ?? 10000);
  if (scaling === null) return { kind: "default", theta: olderTheta };
  const theta = readNumber(scaling, "rope_theta", THETA, olderTheta);
  const kindField = fieldValue(scaling, "rope_type") === undefined ? "type" : "rope_type";
  const named = readChoice(scaling, kindField, KINDS, newer ? "default" : undefined);
  // The first Phi-3 checkpoints call longrope otherwise.
  const isLong = named === "su" || (named === "yarn" && fieldValue(scaling, "short_factor") !== undefined);
  const kind = isLong ? "longrope" : named;
  switch (kind) {
    case "default":
      return { kind, theta };
    case "factors":
      return { kind, theta, factors: readFactors(scaling, "factors") };
    case "linear":
      return { kind, theta, factor: readNumber(scaling, "factor", FACTOR) };
    case "llama3":
      return { kind, theta, ...readLlama3(scaling) };
    case "yarn":
      return { kind, theta, ...readYarn(config, scaling) };
    default:
      return { kind: "longrope", theta, ...readLongrope(config, scaling) };
  }
}

function readLlama3(scaling: Fields) {
  const lowFactor = readNumber(scaling, "low_freq_factor", FACTOR);
  const above = { minimum: lowFactor * (1 + 1e-9), maximum: FACTOR.maximum };
  return {
    factor: readNumber(scaling, "factor", FACTOR),
    lowFactor,
    highFactor: readNumber(scaling, "high_freq_factor", above),
    originalContext: readNumber(scaling, "original_max_position_embeddings", CONTEXT),
  };
}

/** `original_max_position_embeddings`, which may stand in the config instead. */
function readOriginalContext(config: Fields, scaling: Fields, fallback?: number): number {
  const field = "original_max_position_embeddings";
  const outer = fieldValue(config, field) === undefined ? fallback : readNumber(config, field, CONTEXT);
  return readNumber(scaling, field, CONTEXT, outer);
}

function readYarn(config: Fields, scaling: Fields) {
  const context = readNumber(config, "max_position_embeddings", CONTEXT);
  const originalContext = readOriginalContext(config, scaling, context);
  const factor = readNumber(scaling, "factor", FACTOR, context / originalContext);
  const fastTurns = readNumber(scaling, "beta_fast", FACTOR, 32);
  const slowTurns = readNumber(scaling, "beta_slow", FACTOR, 1);
  const scale = readNumber(scaling, "mscale", { minimum: 0, maximum: 100 }, 0);
  const scaleAll = readNumber(scaling, "mscale_all_dim", { minimum: 0, maximum: 100 }, 0);
  const usual =
    scale && scaleAll ? yarnScale(factor, scale) / yarnScale(factor, scaleAll) : yarnScale(factor, 1);
  return {
    factor,
    originalContext,
    fastTurns,
    slowTurns,
    truncate: readBoolean(scaling, "truncate", true),
    magnitude: readNumber(scaling, "attention_factor", FACTOR, usual),
    scoreScale: scaleAll ? yarnScale(factor, scaleAll) : 1,
  };
}

/** YaRN's scale of queries and keys for a context that is `factor` times as long. */
export function yarnScale(factor: number, scale = 1): number {
  return factor <= 1 ? 1 : 0.1 * scale * log64(factor) + 1;
}

function readLongrope(config: Fields, scaling: Fields) {
  const context = readNumber(config, "max_position_embeddings", CONTEXT);
  const originalContext = readOriginalContext(config, scaling);
  const factor = readNumber(scaling, "factor", FACTOR, context / originalContext);
  const usual = factor <= 1 ? 1 : Math.sqrt(1 + log64(factor) / log64(originalContext));
  const magnitude = readNumber(scaling, "attention_factor", FACTOR, usual);
  const list = (name: string): FactorList => ({
    factors: readFactors(scaling, `${name}_factor`),
    magnitude: readNumber(scaling, `${name}_mscale`, FACTOR, magnitude),
  });
  return { originalContext, short: list("short"), long: list("long") };
}

function readFactors(scaling: Fields, name: string): readonly number[] {
  const value = fieldValue(scaling, name);
  const fits = (factor: unknown) =>
    typeof factor === "number" && factor >= FACTOR.minimum && factor <= FACTOR.maximum;
  if (value === undefined) throw missingField(scaling, name);
  if (Array.isArray(value) && value.length <= LIMITS.configWidth && value.every(fits)) return value;
  throw invalidField(scaling, name, value, `a list of numbers from ${FACTOR.minimum} to ${FACTOR.maximum}`);
}

/** Everything that the heads of a model with this scaling need. Throws `config/invalid`. */
export function ropeUse(scaling: RopeScaling, rotaryWidth: number): RopeUse {
  const table = ropeTable(scaling, rotaryWidth);
  if (scaling.kind !== "longrope") return { table };
  const { theta, long, originalContext } = scaling;
  return {
    table,
    long: { table: factorTable(theta, rotaryWidth, long, "long_factor"), beyond: originalContext },
  };
}

/**
 * The table of a rotary embedding over `rotaryWidth` (even) elements of each head; of `longrope`, that within the original
 * context. Throws `config/invalid`.
 */
export function ropeTable(scaling: RopeScaling, rotaryWidth: number): RopeTable {
  const { theta } = scaling;
  if (scaling.kind === "factors") {
    return factorTable(theta, rotaryWidth, { factors: scaling.factors, magnitude: 1 }, "factors");
  }
  if (scaling.kind === "longrope") return factorTable(theta, rotaryWidth, scaling.short, "short_factor");
  const frequencies = plainFrequencies(theta, rotaryWidth).map((frequency, pair) =>
    scaleFrequency(scaling, rotaryWidth, pair, frequency),
  );
  return { rotaryWidth, frequencies, magnitude: scaling.kind === "yarn" ? scaling.magnitude : 1 };
}

function plainFrequencies(theta: number, rotaryWidth: number): Float64Array {
  return Float64Array.from({ length: rotaryWidth / 2 }, (_, i) => 1 / pow64(theta, (2 * i) / rotaryWidth));
}

function factorTable(
  theta: number,
  rotaryWidth: number,
  { factors, magnitude }: FactorList,
  name: string,
): RopeTable {
  const pairs = rotaryWidth / 2;
  if (factors.length !== pairs) {
    const message = `there are ${factors.length} rotary factors for ${pairs} pairs`;
    const details = { field: `rope_parameters.${name}`, value: factors.length, limit: pairs };
    throw new IsqError("config/invalid", message, details);
  }
  const frequencies = plainFrequencies(theta, rotaryWidth).map((frequency, i) => frequency / factors[i]);
  return { rotaryWidth, frequencies, magnitude };
}

type RuleScaling = Exclude<RopeScaling, { readonly kind: "factors" | "longrope" }>;

function scaleFrequency(scaling: RuleScaling, rotaryWidth: number, pair: number, frequency: number): number {
  if (scaling.kind === "default") return frequency;
  if (scaling.kind === "linear") return frequency / scaling.factor;
  if (scaling.kind === "yarn") return rampFrequency(scaling, rotaryWidth, pair, frequency);
  const { factor, lowFactor, highFactor, originalContext } = scaling;
  const turns = originalContext / ((2 * Math.PI) / frequency); // full turns within the original context
  if (turns > highFactor) return frequency;
  if (turns < lowFactor) return frequency / factor;
  const smooth = (turns - lowFactor) / (highFactor - lowFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

/** Kept up to the pair with the fast turns, divided from that with the slow turns on, blended between. */
function rampFrequency(
  scaling: Extract<RopeScaling, { kind: "yarn" }>,
  rotaryWidth: number,
  pair: number,
  frequency: number,
): number {
  const { theta, factor, originalContext, fastTurns, slowTurns, truncate } = scaling;
  const pairOf = (turns: number) =>
    (rotaryWidth * log64(originalContext / (turns * 2 * Math.PI))) / (2 * log64(theta));
  const [fast, slow] = [pairOf(fastTurns), pairOf(slowTurns)];
  const first = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const last = Math.min(truncate ? Math.ceil(slow) : slow, rotaryWidth - 1);
  const ramp = (pair - first) / (first === last ? 0.001 : last - first);
  const divided = Math.min(1, Math.max(0, ramp));
  return (frequency / factor) * divided + frequency * (1 - divided);
}
