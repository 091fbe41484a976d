/**
 * A JSON reader that hides nothing: JSON.parse drops duplicate keys and rounds numbers, and both have been used to make
 * two readers see two different files. This one gives entries in order, duplicates included, and numbers as text.
 */

/** A parsed value; numbers stay text until somebody says what they must be. */
export type Json =
  | { readonly kind: "object"; readonly entries: readonly (readonly [string, Json])[] }
  | { readonly kind: "array"; readonly items: readonly Json[] }
  | { readonly kind: "string"; readonly text: string }
  | { readonly kind: "number"; readonly text: string }
  | { readonly kind: "other"; readonly text: "true" | "false" | "null" };

/** Thrown inside the reader; callers turn it into their own tagged error. */
export class JsonSyntaxError extends Error {
  readonly offset: number;
  constructor(message: string, offset: number) {
    super(`${message} at character ${offset}`);
    this.offset = offset;
  }
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
const SPACE = /[ \t\n\r]*/y;

/** Parses a whole text. `maxDepth` bounds nesting. Linear time. Throws {@link JsonSyntaxError}. */
export function parseJson(text: string, maxDepth: number): Json {
  let at = 0;
  const match = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found ? found[0] : null;
  };
  const fail = (message: string): never => {
    throw new JsonSyntaxError(message, at);
  };
  const take = (character: string): boolean => {
    match(SPACE);
    if (text[at] !== character) return false;
    at++;
    return true;
  };
  const expect = (character: string) => take(character) || fail(`expected "${character}"`);
  const list = (close: string, item: () => void) => {
    if (take(close)) return;
    do item();
    while (take(","));
    expect(close);
  };
  const readString = (): string => {
    match(SPACE);
    const start = at;
    if (text[at++] !== '"') fail("expected a string");
    // By hand: a pattern with a choice inside a loop overflows the matcher's stack on strings of megabytes.
    for (; text[at] !== '"'; at++) {
      if (at >= text.length || text.charCodeAt(at) < 0x20) fail("unfinished string");
      if (text[at] === "\\") at++;
    }
    const raw = text.slice(start, ++at);
    if (!raw.includes("\\")) return raw.slice(1, -1);
    try {
      return JSON.parse(raw);
    } catch {
      return fail("bad escape");
    }
  };
  const readValue = (depth: number): Json => {
    if (depth > maxDepth) fail(`nesting deeper than ${maxDepth}`);
    if (take("{")) {
      const entries: [string, Json][] = [];
      list("}", () => {
        const key = readString();
        expect(":");
        entries.push([key, readValue(depth + 1)]);
      });
      return { kind: "object", entries };
    }
    if (take("[")) {
      const items: Json[] = [];
      list("]", () => items.push(readValue(depth + 1)));
      return { kind: "array", items };
    }
    if (text[at] === '"') return { kind: "string", text: readString() };
    const word = match(WORD);
    if (word !== null) return { kind: "other", text: word as "true" };
    return { kind: "number", text: match(NUMBER) ?? fail("expected a value") };
  };
  const value = readValue(1);
  match(SPACE);
  if (at !== text.length) fail("text after the end");
  return value;
}

/** The value of a number that is a non-negative safe integer written as plain digits; null for anything else. */
export function readCount(value: Json): number | null {
  if (value.kind !== "number" || !/^\d+$/.test(value.text)) return null;
  const count = Number(value.text);
  return Number.isSafeInteger(count) ? count : null;
}
