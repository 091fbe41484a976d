/**
 * A JSON reader that hides nothing. JSON.parse drops duplicate keys and rounds numbers, and both have been used to make
 * two readers see two different files; it also builds whatever the text describes, so that 100 MB of "[]," become
 * gigabytes. Here the caller walks the text: duplicate keys are refused, numbers stay text, and only what the caller
 * keeps takes memory. Time is linear in the text.
 */

export interface JsonLimits {
  /** Nesting of objects and arrays. */
  readonly depth: number;
  /** Keys of one object. */
  readonly entries: number;
}

/** A place in a text. Made by {@link openJson}, moved by the `read…` and `skip…` functions. */
export interface JsonCursor {
  readonly text: string;
  readonly limits: JsonLimits;
  at: number;
  depth: number;
}

export type JsonKind = "object" | "array" | "string" | "number" | "true, false or null";

/** What was wrong: the syntax, a key given twice, or a cap. Callers turn it into their own tagged error. */
export class JsonError extends Error {
  readonly rule: "syntax" | "duplicate" | "limit";
  /** Characters from the start of the text. */
  readonly offset: number;

  constructor(rule: JsonError["rule"], message: string, offset: number) {
    super(`${message} at character ${offset}`);
    this.rule = rule;
    this.offset = offset;
  }
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

export function openJson(text: string, limits: JsonLimits): JsonCursor {
  return { text, limits, at: 0, depth: 0 };
}

/** The kind of the next value. A character that starts no value counts as a number, which then fails to be read. */
export function peekKind(json: JsonCursor): JsonKind {
  skipSpace(json);
  switch (json.text[json.at]) {
    case "{":
      return "object";
    case "[":
      return "array";
    case '"':
      return "string";
    case "t":
    case "f":
    case "n":
      return "true, false or null";
    default:
      return "number";
  }
}

/** Reads an object; `visit` gets each key and must read or skip its value. Throws on a key that comes twice. */
export function readObject(json: JsonCursor, visit: (key: string) => void): void {
  const keys = new Set<string>();
  readList(json, "{", "}", () => {
    const start = json.at;
    const key = readString(json);
    if (keys.has(key)) throw new JsonError("duplicate", `${quote(key)} comes twice`, start);
    if (keys.size === json.limits.entries) {
      throw new JsonError("limit", `more than ${json.limits.entries} keys in one object`, start);
    }
    keys.add(key);
    expect(json, ":");
    visit(key);
  });
}

/** Reads an array; `visit` must read or skip one item each time. */
export function readArray(json: JsonCursor, visit: () => void): void {
  readList(json, "[", "]", visit);
}

/** Reads a string. Escapes must form whole characters, as in the strict readers of other languages. */
export function readString(json: JsonCursor): string {
  expect(json, '"');
  const { text } = json;
  const start = json.at;
  let escaped = false;
  // By hand: a pattern with a choice inside a loop overflows the matcher's stack on strings of megabytes.
  for (let code = text.charCodeAt(json.at); code !== QUOTE; code = text.charCodeAt(++json.at)) {
    if (!(code >= 0x20)) fail(json, "a control character or the end of the text inside a string");
    if (code === BACKSLASH) {
      escaped = true;
      json.at++;
    }
  }
  const raw = text.slice(start, json.at++);
  return escaped ? unescapeString(json, raw) : raw;
}

/** Reads a non-negative safe integer in plain digits. Null for any other number, and for other kinds, left unread. */
export function readCount(json: JsonCursor): number | null {
  if (peekKind(json) !== "number") return null;
  const digits = match(json, NUMBER) ?? fail(json, "expected a value");
  const count = Number(digits);
  return Number.isSafeInteger(count) && /^\d+$/.test(digits) ? count : null;
}

/** Passes over a value of any kind, which must be well formed all the same. */
export function skipValue(json: JsonCursor): void {
  const kind = peekKind(json);
  if (kind === "object") readObject(json, () => skipValue(json));
  else if (kind === "array") readArray(json, () => skipValue(json));
  else if (kind === "string") readString(json);
  else if (match(json, kind === "number" ? NUMBER : WORD) === null) fail(json, "expected a value");
}

/** Throws unless nothing but white space is left. */
export function finishJson(json: JsonCursor): void {
  skipSpace(json);
  if (json.at !== json.text.length) fail(json, "text after the end");
}

/** Text of a file as an error message may show it: quoted, control characters escaped, cut after 100 characters. */
export function quote(text: string): string {
  return escapeControls(JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text));
}

/** As JSON escapes them, what terminals obey: C0 and C1 controls, line separators, bidirectional marks. */
export function escapeControls(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function readList(json: JsonCursor, open: string, close: string, readItem: () => void): void {
  expect(json, open);
  if (++json.depth > json.limits.depth) {
    throw new JsonError("limit", `nesting deeper than ${json.limits.depth}`, json.at);
  }
  if (!take(json, close)) {
    do readItem();
    while (take(json, ","));
    expect(json, close);
  }
  json.depth--;
}

function unescapeString(json: JsonCursor, raw: string): string {
  let text: string;
  try {
    text = JSON.parse(`"${raw}"`);
  } catch {
    return fail(json, "a bad escape in the string that ends");
  }
  return /\p{Surrogate}/u.test(text) ? fail(json, "half a surrogate pair in the string that ends") : text;
}

function expect(json: JsonCursor, character: string): void {
  if (!take(json, character)) fail(json, `expected ${quote(character)}`);
}

function take(json: JsonCursor, character: string): boolean {
  skipSpace(json);
  if (json.text[json.at] !== character) return false;
  json.at++;
  return true;
}

function match(json: JsonCursor, pattern: RegExp): string | null {
  pattern.lastIndex = json.at;
  const found = pattern.exec(json.text);
  if (!found) return null;
  json.at = pattern.lastIndex;
  return found[0];
}

function skipSpace(json: JsonCursor): void {
  for (;;) {
    const code = json.text.charCodeAt(json.at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    json.at++;
  }
}

function fail(json: JsonCursor, message: string): never {
  throw new JsonError("syntax", message, json.at);
}
