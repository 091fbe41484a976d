/**
 * Rotary position embedding: the frequencies of each pair, in binary64 with the functions of math.ts.
 *
 * Scalings: none; `linear` (Chen et al., "Extending Context Window of Large Language Models via Positional
 * Interpolation", 2023); `llama3` (the rule published with Llama 3.1: long waves are divided by the factor, short ones
 * kept, those between blended); `factors` (GGUF files hold the result of such a rule: each frequency is divided by its own).
 */

import type { RopeTable } from "../backends/program.js";
import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { pow64 } from "../math.js";
import {
  type Fields,
  fieldValue,
  invalidField,
  type NumberRange,
  readChoice,
  readNumber,
  readObject,
} from "./fields.js";

const KINDS = ["default", "linear", "llama3", "factors"] as const;

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
);

const THETA: NumberRange = { minimum: 1, maximum: 1e12 };
const FACTOR: NumberRange = { minimum: 1e-3, maximum: 1e6 };
const CONTEXT: NumberRange = { minimum: 1, maximum: LIMITS.configContext };

/**
 * Reads rope fields: `rope_parameters` (newer), else `rope_theta` and `rope_scaling` (older, kind under `rope_type` or
 * `type`). Throws `config/invalid` for a scaling that is not supported.
 */
export function parseRope(config: Fields): RopeScaling {
  const newer = readObject(config, "rope_parameters");
  const scaling = newer ?? readObject(config, "rope_scaling");
  const olderTheta = readNumber(config, "rope_theta", THETA, 10000);
  if (scaling === null) return { kind: "default", theta: olderTheta };
  const theta = readNumber(scaling, "rope_theta", THETA, olderTheta);
  const kindField = fieldValue(scaling, "rope_type") === undefined ? "type" : "rope_type";
  const kind = readChoice(scaling, kindField, KINDS, newer ? "default" : undefined);
  if (kind === "default") return { kind, theta };
  if (kind === "factors") return { kind, theta, factors: readFactors(scaling) };
  const factor = readNumber(scaling, "factor", FACTOR);
  if (kind === "linear") return { kind, theta, factor };
  const lowFactor = readNumber(scaling, "low_freq_factor", FACTOR);
  return {
    kind,
    theta,
    factor,
    lowFactor,
    highFactor: readNumber(scaling, "high_freq_factor", {
      minimum: lowFactor * (1 + 1e-9),
      maximum: FACTOR.maximum,
    }),
    originalContext: readNumber(scaling, "original_max_position_embeddings", CONTEXT),
  };
}

function readFactors(scaling: Fields): readonly number[] {
  const value = fieldValue(scaling, "factors");
  const fits = (factor: unknown) =>
    typeof factor === "number" && factor >= FACTOR.minimum && factor <= FACTOR.maximum;
  if (Array.isArray(value) && value.length <= LIMITS.configWidth && value.every(fits)) return value;
  throw invalidField(
    scaling,
    "factors",
    value,
    `a list of numbers from ${FACTOR.minimum} to ${FACTOR.maximum}`,
  );
}

/** The table of a rotary embedding over `rotaryWidth` (even) elements of each head. Throws `config/invalid`. */
export function ropeTable(scaling: RopeScaling, rotaryWidth: number): RopeTable {
  if (scaling.kind === "factors" && scaling.factors.length !== rotaryWidth / 2) {
    const message = `there are ${scaling.factors.length} rotary factors for ${rotaryWidth / 2} pairs`;
    const details = {
      field: "rope_parameters.factors",
      value: scaling.factors.length,
      limit: rotaryWidth / 2,
    };
    throw new IsqError("config/invalid", message, details);
  }
  const frequencies = new Float64Array(rotaryWidth / 2);
  for (let i = 0; i < frequencies.length; i++) {
    frequencies[i] = scaleFrequency(scaling, i, 1 / pow64(scaling.theta, (2 * i) / rotaryWidth));
  }
  return { rotaryWidth, frequencies, magnitude: 1 };
}

function scaleFrequency(scaling: RopeScaling, pair: number, frequency: number): number {
  if (scaling.kind === "default") return frequency;
  if (scaling.kind === "linear") return frequency / scaling.factor;
  if (scaling.kind === "factors") return frequency / scaling.factors[pair];
  const { factor, lowFactor, highFactor, originalContext } = scaling;
  const turns = originalContext / ((2 * Math.PI) / frequency); // full turns within the original context
  if (turns > highFactor) return frequency;
  if (turns < lowFactor) return frequency / factor;
  const smooth = (turns - lowFactor) / (highFactor - lowFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}
