/** Checked access to the fields of a JSON side file: every refusal names the file, the field, the value and the limit. */

import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";

/** An object of a JSON file. `null` counts as absent, as it does for the writers of these files. */
export interface Fields {
  readonly file: string;
  /** Where the object sits in its file: empty, or a prefix like `rope_parameters.`. */
  readonly path: string;
  readonly values: Readonly<Record<string, unknown>>;
}

export interface NumberRange {
  readonly minimum: number;
  readonly maximum: number;
}

/** Parses a JSON object. Throws `config/invalid` when the text is too long, not JSON or not an object. */
export function parseFields(text: string, file: string): Fields {
  if (text.length > LIMITS.jsonBytes) {
    throw new IsqError("config/invalid", `${file} has ${text.length} characters, above ${LIMITS.jsonBytes}`, {
      file,
      value: text.length,
      limit: LIMITS.jsonBytes,
    });
  }
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (cause) {
    throw new IsqError("config/invalid", `${file} is not JSON: ${String(cause)}`, { file }, { cause });
  }
  return fieldsOf(values, file);
}

/** Wraps an already parsed object. Throws `config/invalid` for anything else. */
export function fieldsOf(values: unknown, file: string, path = ""): Fields {
  if (!isRecord(values)) {
    const where = path === "" ? file : `${path.slice(0, -1)} of ${file}`;
    throw new IsqError("config/invalid", `${where} must be an object`, {
      file,
      field: path.slice(0, -1),
      value: values,
    });
  }
  return { file, path, values };
}

/** The raw value of a field, `undefined` when absent or null. */
export function fieldValue(fields: Fields, name: string): unknown {
  return Object.hasOwn(fields.values, name) ? (fields.values[name] ?? undefined) : undefined;
}

/** An integer in `range`. Absent: `fallback`, or `config/missing` when there is none. */
export function readInteger(fields: Fields, name: string, range: NumberRange, fallback?: number): number {
  const value = readNumber(fields, name, range, fallback);
  if (!Number.isSafeInteger(value)) throw invalidField(fields, name, value, "an integer");
  return value;
}

/** A finite number in `range`. Absent: `fallback`, or `config/missing` when there is none. */
export function readNumber(fields: Fields, name: string, range: NumberRange, fallback?: number): number {
  const value = fieldValue(fields, name) ?? fallback;
  if (value === undefined) throw missingField(fields, name);
  if (typeof value !== "number" || !(value >= range.minimum && value <= range.maximum)) {
    throw invalidField(fields, name, value, `a number from ${range.minimum} to ${range.maximum}`);
  }
  return value;
}

/** A boolean. Absent: `fallback`. */
export function readBoolean(fields: Fields, name: string, fallback: boolean): boolean {
  const value = fieldValue(fields, name) ?? fallback;
  if (typeof value !== "boolean") throw invalidField(fields, name, value, "true or false");
  return value;
}

/** One of a list of words. Absent: `fallback`, or `config/missing` when there is none. */
export function readChoice<Word extends string>(
  fields: Fields,
  name: string,
  choices: readonly Word[],
  fallback?: Word,
): Word {
  const value = fieldValue(fields, name) ?? fallback;
  if (value === undefined) throw missingField(fields, name);
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw invalidField(fields, name, value, `one of ${choices.join(", ")}`);
  return found;
}

/** The object under a field, or null when absent. */
export function readObject(fields: Fields, name: string): Fields | null {
  const value = fieldValue(fields, name);
  return value === undefined ? null : fieldsOf(value, fields.file, `${fields.path}${name}.`);
}

export function missingField(fields: Fields, name: string): IsqError {
  return new IsqError("config/missing", `${fields.file} lacks the field ${fields.path}${name}`, {
    file: fields.file,
    field: fields.path + name,
  });
}

export function invalidField(fields: Fields, name: string, value: unknown, limit: string): IsqError {
  const field = fields.path + name;
  return new IsqError(
    "config/invalid",
    `${field} of ${fields.file} is ${shorten(value)}, and must be ${limit}`,
    {
      file: fields.file,
      field,
      value,
      limit,
    },
  );
}

function shorten(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
