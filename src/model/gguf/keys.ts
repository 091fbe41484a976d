/** Metadata keys of GGUF files as fields of config.json, and back. */

import { type ErrorDetails, IsqError } from "../../errors.js";
import type { GgufMetadata, GgufValue } from "../../files/gguf-values.js";
import { type Fields, fieldValue, invalidField, missingField } from "../fields.js";

/** A number or switch that both sides have. */
export interface KeyRule {
  /** Without the architecture in front: `attention.head_count`. */
  readonly key: string;
  readonly type: "u32" | "f32" | "bool";
  /** Of config.json. */
  readonly field: string;
  /** What an absent field stands for; null: the key is left out. Without it the field is needed. */
  readonly absent?: number | boolean | null;
}

/** A needed number. */
export function count(key: string, field: string, absent?: number | null): KeyRule {
  return { key, type: "u32", field, ...(absent !== undefined && { absent }) };
}

/** A binary32 number. */
export function float(key: string, field: string, absent?: number | null): KeyRule {
  return { key, type: "f32", field, ...(absent !== undefined && { absent }) };
}

export function flag(key: string, field: string, absent: boolean | null = null): KeyRule {
  return { key, type: "bool", field, absent };
}

/** The value of a field for the file; null: leave the key out. Throws `config/missing` and `config/invalid`. */
export function valueOfField(fields: Fields, { type, field, absent }: KeyRule): GgufValue | null {
  const value = fieldValue(fields, field) ?? absent;
  if (value === undefined) throw missingField(fields, field);
  if (value === null) return null;
  if (type === "bool") {
    if (typeof value !== "boolean") throw invalidField(fields, field, value, "true or false");
    return { type, value };
  }
  const most = type === "u32" ? 2 ** 32 - 1 : 3e38;
  const fits = typeof value === "number" && Math.abs(value) <= most;
  if (!fits || (type === "u32" && !(Number.isInteger(value) && value >= 0))) {
    throw invalidField(fields, field, value, type === "u32" ? "a count" : "a number");
  }
  return { type, value };
}

/** The metadata of one file and its architecture's prefix. */
export interface Keys {
  readonly file: string;
  readonly architecture: string;
  readonly metadata: GgufMetadata;
}

/** A number under `{architecture}.{key}`, of whatever type; undefined when absent. Throws `gguf/metadata`. */
export function readNumberKey(keys: Keys, key: string): number | undefined {
  const name = `${keys.architecture}.${key}`;
  const found = keys.metadata.get(name);
  if (found === undefined) return undefined;
  const value = found.type === "f32" ? shortenFloat(found.value) : Number(plainValue(found));
  if (typeof plainValue(found) === "string" || !Number.isFinite(value)) {
    throw metadataError(keys.file, name, "is not a number", plainValue(found));
  }
  return value;
}

/** As {@link readNumberKey}, and throws when the key is absent. */
export function needNumberKey(keys: Keys, key: string): number {
  const value = readNumberKey(keys, key);
  if (value !== undefined) return value;
  throw metadataError(keys.file, `${keys.architecture}.${key}`, "is missing");
}

/** A text under a full key; undefined when absent. Throws `gguf/metadata` for another type. */
export function readTextKey(file: string, metadata: GgufMetadata, key: string): string | undefined {
  const found = metadata.get(key);
  if (found === undefined || found.type === "string") return found?.value;
  throw metadataError(file, key, "is not a text", plainValue(found));
}

/** A bool under a full key; undefined when absent. Throws `gguf/metadata` for another type. */
export function readBoolKey(file: string, metadata: GgufMetadata, key: string): boolean | undefined {
  const found = metadata.get(key);
  if (found === undefined || found.type === "bool") return found?.value;
  throw metadataError(file, key, "is not a bool", plainValue(found));
}

/** The field's value for a key; undefined: the key is absent, and so is the field. */
export function fieldOfKey(keys: Keys, { key, type, absent }: KeyRule): number | boolean | undefined {
  if (type === "bool") return readBoolKey(keys.file, keys.metadata, `${keys.architecture}.${key}`);
  return absent === undefined ? needNumberKey(keys, key) : readNumberKey(keys, key);
}

export function metadataError(file: string, key: string, problem: string, value?: unknown): IsqError {
  const details: ErrorDetails = { file, field: key, ...(value !== undefined && { value }) };
  return new IsqError("gguf/metadata", `${file}: ${key} ${problem}`, details);
}

function plainValue(value: GgufValue): string | number | boolean {
  if (value.type === "array") return "an array";
  return typeof value.value === "bigint" ? Number(value.value) : value.value;
}

/** The shortest decimal number that rounds to this binary32, which is what config.json had: 1e-5, not 9.99999974e-6. */
export function shortenFloat(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
