/** Which layers of a model see all positions, and how far the others see. */

import { LIMITS } from "../limits.js";
import { RANGES } from "./config.js";
import { type Fields, fieldValue, invalidField, readBoolean, readInteger, readNumber } from "./fields.js";

export type LayerType = "sliding_attention" | "full_attention";

/** `sliding_window`: positions seen, or null. */
export function readSlidingWindow(fields: Fields): number | null {
  return fieldValue(fields, "sliding_window") === undefined
    ? null
    : readInteger(fields, "sliding_window", RANGES.positions);
}

/** The kind of attention of each layer, where `layer_types` says it, else as `rule` decides. */
export function readLayerTypes(
  fields: Fields,
  layers: number,
  rule: (layer: number) => LayerType,
): readonly LayerType[] {
  const value = fieldValue(fields, "layer_types");
  if (value === undefined) return Array.from({ length: layers }, (_, layer) => rule(layer));
  const known = (type: unknown) => type === "sliding_attention" || type === "full_attention";
  if (Array.isArray(value) && value.length === layers && value.every(known)) return value;
  const limit = `${layers} times sliding_attention or full_attention`;
  throw invalidField(fields, "layer_types", value, limit);
}

/** The window of each layer: `sliding_window` where the kind of attention is sliding. */
export function readWindows(
  fields: Fields,
  layers: number,
  rule: (layer: number) => LayerType,
): readonly (number | null)[] {
  const types = readLayerTypes(fields, layers, rule);
  const window = types.includes("sliding_attention")
    ? readInteger(fields, "sliding_window", RANGES.positions)
    : null;
  return types.map((type) => (type === "sliding_attention" ? window : null));
}

/**
 * Windows of models that say whether they use them, `use_sliding_window`. Which layers slide, where `layer_types` does not
 * say it: those from `max_window_layers` on, or as `rule` decides.
 */
export function readOptionalWindows(
  fields: Fields,
  layers: number,
  rule?: (layer: number) => LayerType,
): readonly (number | null)[] {
  const used = readBoolean(fields, "use_sliding_window", false);
  if (!used || fieldValue(fields, "sliding_window") === undefined) return new Array(layers).fill(null);
  const full = readInteger(fields, "max_window_layers", { minimum: 0, maximum: LIMITS.configLayers }, 28);
  const usual = (layer: number) => (layer >= full ? "sliding_attention" : "full_attention");
  return readWindows(fields, layers, rule ?? usual);
}

/** A soft cap: null is none, absent is `fallback`. */
export function readCap(fields: Fields, name: string, fallback?: number): number | undefined {
  if (Object.hasOwn(fields.values, name) && fields.values[name] === null) return undefined;
  if (fieldValue(fields, name) === undefined) return fallback;
  return readNumber(fields, name, RANGES.scale);
}
