/** Rotary scalings: config.json's object on one side, keys and tensors of factors on the other. */

import type { GgufValue } from "../../files/gguf-values.js";
import { type Fields, fieldValue, invalidField, readNumber, readObject } from "../fields.js";
import { parseRope, ropeTable } from "../rope.js";
import { type Keys, metadataError, needNumberKey, readNumberKey, readTextKey, shortenFloat } from "./keys.js";

/** A tensor of factors that no checkpoint has. */
export interface FactorTensor {
  readonly name: string;
  readonly values: Float32Array;
}

export interface RopeKeys {
  /** Without the architecture in front. */
  readonly keys: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly FactorTensor[];
}

export const ROPE_FACTORS = "rope_freqs.weight";
export const LONG_FACTORS = "rope_factors_long.weight";
export const SHORT_FACTORS = "rope_factors_short.weight";

const POSITIVE = { minimum: 1e-30, maximum: 1e30 };

/** What a file says of the rotary embedding over `rotaryWidth` elements per head. Throws `config/invalid`. */
export function ropeKeys(config: Fields, rotaryWidth: number): RopeKeys {
  const newer = readObject(config, "rope_parameters");
  const scaling = newer ?? readObject(config, "rope_scaling");
  const olderTheta = readNumber(config, "rope_theta", POSITIVE, 10000);
  const theta = scaling ? readNumber(scaling, "rope_theta", POSITIVE, olderTheta) : olderTheta;
  const keys = new Map<string, GgufValue>([["rope.freq_base", { type: "f32", value: theta }]]);
  const kind = String(
    (scaling && (fieldValue(scaling, "rope_type") ?? fieldValue(scaling, "type"))) ?? "default",
  );
  if (scaling === null || kind === "default") return { keys, tensors: [] };
  const number = (key: string, field: string) => {
    keys.set(key, { type: "f32", value: readNumber(scaling, field, POSITIVE) });
  };
  const originalContext = (fields: Fields) => {
    const value = readNumber(fields, "original_max_position_embeddings", POSITIVE);
    keys.set("rope.scaling.original_context_length", { type: "u32", value });
    return value;
  };
  switch (kind) {
    case "linear":
      keys.set("rope.scaling.type", { type: "string", value: kind });
      number("rope.scaling.factor", "factor");
      return { keys, tensors: [] };
    case "llama3": {
      const plain = ropeTable({ kind: "default", theta }, rotaryWidth).frequencies;
      const scaled = ropeTable(parseRope(config), rotaryWidth).frequencies;
      return {
        keys,
        tensors: [{ name: ROPE_FACTORS, values: Float32Array.from(plain, (f, i) => f / scaled[i]) }],
      };
    }
    case "factors":
      return { keys, tensors: [{ name: ROPE_FACTORS, values: readFactors(scaling, kind, rotaryWidth / 2) }] };
    case "longrope":
    case "su": {
      keys.set("rope.scaling.type", { type: "string", value: "longrope" });
      const original = originalContext(
        fieldValue(scaling, "original_max_position_embeddings") ? scaling : config,
      );
      const ratio = readNumber(config, "max_position_embeddings", POSITIVE) / original;
      const computed = ratio > 1 ? Math.sqrt(1 + Math.log(ratio) / Math.log(original)) : 1;
      const factor = readNumber(scaling, "attention_factor", POSITIVE, computed);
      keys.set("rope.scaling.attn_factor", { type: "f32", value: factor });
      const tensors = [
        { name: LONG_FACTORS, values: readFactors(scaling, "long_factor", rotaryWidth / 2) },
        { name: SHORT_FACTORS, values: readFactors(scaling, "short_factor", rotaryWidth / 2) },
      ];
      return { keys, tensors };
    }
    default:
      throw invalidField(
        scaling,
        "rope_type",
        kind,
        "default, linear, llama3 or longrope to be written as GGUF",
      );
  }
}

function readFactors(scaling: Fields, name: string, length: number): Float32Array {
  const value = fieldValue(scaling, name);
  const isFactor = (factor: unknown) => typeof factor === "number" && factor > 0 && factor < 1e6;
  if (Array.isArray(value) && value.length === length && value.every(isFactor))
    return Float32Array.from(value);
  throw invalidField(scaling, name, value, `a list of ${length} factors`);
}

/** `rope_parameters` of config.json. `readFactors` gives a tensor of the file as binary32, or null. Throws `gguf/metadata`. */
export async function ropeParameters(
  keys: Keys,
  readTensor: (name: string) => Promise<Float32Array | null>,
): Promise<Record<string, unknown>> {
  const { file, architecture, metadata } = keys;
  const rope_theta = readNumberKey(keys, "rope.freq_base") ?? 10000;
  const typeKey = `${architecture}.rope.scaling.type`;
  const kind = readTextKey(file, metadata, typeKey) ?? "none";
  if (kind === "linear") {
    return { rope_type: "linear", rope_theta, factor: needNumberKey(keys, "rope.scaling.factor") };
  }
  const [long, short] = [await readTensor(LONG_FACTORS), await readTensor(SHORT_FACTORS)];
  if (long !== null && short !== null) {
    const original = readNumberKey(keys, "rope.scaling.original_context_length");
    return {
      rope_type: "longrope",
      rope_theta,
      long_factor: Array.from(long, shortenFloat),
      short_factor: Array.from(short, shortenFloat),
      ...(original !== undefined && { original_max_position_embeddings: original }),
      attention_factor: readNumberKey(keys, "rope.scaling.attn_factor") ?? 1,
    };
  }
  const factors = await readTensor(ROPE_FACTORS);
  if (factors !== null) return { rope_type: "factors", rope_theta, factors: [...factors] };
  if (kind === "none") return { rope_type: "default", rope_theta };
  throw metadataError(file, typeKey, `is ${kind}, which is not supported`, kind);
}
