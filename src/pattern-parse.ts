/** The syntax of pattern.ts: parses a pattern to a tree. */

import { IsqError } from "./errors.js";
import { LIMITS } from "./limits.js";

type Matches = (code: number) => boolean;

export type Node =
  | { readonly kind: "character"; readonly matches: Matches }
  | { readonly kind: "assert"; readonly holds: (name: string, at: number) => boolean }
  | { readonly kind: "sequence" | "either"; readonly items: readonly Node[] }
  | { readonly kind: "repeat"; readonly item: Node; readonly least: number; readonly most: number };

interface Parser {
  readonly source: string;
  at: number;
  depth: number;
}

const DIGIT: Matches = (c) => c >= 48 && c <= 57;
const WORD: Matches = (c) => DIGIT(c) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122) || c === 95;
const SPACE: Matches = (c) => c === 32 || (c >= 9 && c <= 13);
const not =
  (matches: Matches): Matches =>
  (c) =>
    !matches(c);
const CLASSES: Readonly<Record<string, Matches>> = {
  d: DIGIT,
  D: not(DIGIT),
  w: WORD,
  W: not(WORD),
  s: SPACE,
  S: not(SPACE),
};
const CONTROLS: Readonly<Record<string, string>> = { t: "\t", n: "\n", r: "\r" };

const atWord = (name: string, at: number) =>
  (at > 0 && WORD(name.charCodeAt(at - 1))) !== (at < name.length && WORD(name.charCodeAt(at)));
const ASSERTIONS: Readonly<Record<string, (name: string, at: number) => boolean>> = {
  "^": (_name, at) => at === 0,
  $: (name, at) => at === name.length,
  b: atWord,
  B: (name, at) => !atWord(name, at),
};

/** Parses the whole pattern. Throws `topology/pattern`. */
export function parsePattern(source: string): Node {
  const parser: Parser = { source, at: 0, depth: 0 };
  const node = parseEither(parser);
  if (parser.at < source.length) throw patternError(source, "it closes a group that it did not open");
  return node;
}

function parseEither(parser: Parser): Node {
  const items = [parseSequence(parser)];
  while (parser.source[parser.at] === "|") {
    parser.at++;
    items.push(parseSequence(parser));
  }
  return items.length === 1 ? items[0] : { kind: "either", items };
}

function parseSequence(parser: Parser): Node {
  const items: Node[] = [];
  while (parser.at < parser.source.length && !"|)".includes(parser.source[parser.at])) {
    items.push(parseRepeat(parser, parseItem(parser)));
  }
  return { kind: "sequence", items };
}

function parseItem(parser: Parser): Node {
  const { source } = parser;
  const character = source[parser.at++];
  if (character === "(") return parseGroup(parser);
  if (character === "[") return { kind: "character", matches: parseSet(parser) };
  if (character === ".") return { kind: "character", matches: (c) => c !== 10 };
  if (character === "^" || character === "$") return { kind: "assert", holds: ASSERTIONS[character] };
  if ("*+?".includes(character)) throw patternError(source, `${character} repeats nothing`);
  if ("{}]".includes(character)) throw patternError(source, `${character} must be written \\${character}`);
  if (character !== "\\") return literal(character);
  const escaped = source[parser.at];
  if (escaped === "b" || escaped === "B") {
    parser.at++;
    return { kind: "assert", holds: ASSERTIONS[escaped] };
  }
  const matches = parseEscape(parser);
  return typeof matches === "string" ? literal(matches) : { kind: "character", matches };
}

function parseGroup(parser: Parser): Node {
  const { source } = parser;
  if (source[parser.at] === "?") {
    const opening = /^\?(:|P?<[A-Za-z_]\w*>)/.exec(source.slice(parser.at));
    if (!opening) throw patternError(source, "groups may be (…), (?:…) and (?<name>…), without look-around");
    parser.at += opening[0].length;
  }
  if (++parser.depth > LIMITS.patternDepth) {
    throw patternError(source, `its groups nest deeper than ${LIMITS.patternDepth}`);
  }
  const node = parseEither(parser);
  if (source[parser.at++] !== ")") throw patternError(source, "a group is not closed");
  parser.depth--;
  return node;
}

function parseRepeat(parser: Parser, item: Node): Node {
  const { source } = parser;
  const found = /^(?:([*+?])|\{(\d{1,4})(,(\d{1,4})?)?\})\??/.exec(source.slice(parser.at));
  if (!found) return item;
  if (item.kind === "assert") throw patternError(source, `${found[0]} repeats an assertion`);
  parser.at += found[0].length;
  if (/^[*+?{]/.test(source.slice(parser.at))) throw patternError(source, "a repetition is repeated");
  const [, sign, low, comma, high] = found;
  const endless = Number.POSITIVE_INFINITY;
  const least = sign === undefined ? Number(low) : sign === "+" ? 1 : 0;
  const counted = comma === undefined ? least : high === undefined ? endless : Number(high);
  const most = sign === undefined ? counted : sign === "?" ? 1 : endless;
  if (least > most) throw patternError(source, `${found[0]} counts down`);
  return { kind: "repeat", item, least, most };
}

/** After a backslash: a class, or the one character that is meant. */
function parseEscape(parser: Parser): Matches | string {
  const { source } = parser;
  const character = source[parser.at++];
  if (character === undefined) throw patternError(source, "it ends with a backslash");
  if (Object.hasOwn(CLASSES, character)) return CLASSES[character];
  if (Object.hasOwn(CONTROLS, character)) return CONTROLS[character];
  if (/[0-9A-Za-z]/.test(character)) throw patternError(source, `\\${character} is not supported`);
  return character;
}

/** A set in brackets; the opening one is read. */
function parseSet(parser: Parser): Matches {
  const { source } = parser;
  const negated = source[parser.at] === "^";
  if (negated) parser.at++;
  const members: Matches[] = [];
  while (source[parser.at] !== "]") {
    const from = parseMember(parser);
    if (typeof from !== "string" || source[parser.at] !== "-" || source[parser.at + 1] === "]") {
      members.push(typeof from === "string" ? isCharacter(from) : from);
      continue;
    }
    parser.at++;
    const to = parseMember(parser);
    if (typeof to !== "string" || to < from)
      throw patternError(source, `the range from ${from} goes nowhere`);
    const [low, high] = [from.charCodeAt(0), to.charCodeAt(0)];
    members.push((c) => c >= low && c <= high);
  }
  parser.at++;
  const any: Matches = (c) => members.some((matches) => matches(c));
  return negated ? not(any) : any;
}

function parseMember(parser: Parser): Matches | string {
  const character = parser.source[parser.at++];
  if (character === undefined) throw patternError(parser.source, "a set is not closed");
  return character === "\\" ? parseEscape(parser) : character;
}

const isCharacter = (character: string): Matches => {
  const wanted = character.charCodeAt(0);
  return (c) => c === wanted;
};

const literal = (character: string): Node => ({ kind: "character", matches: isCharacter(character) });

/** The refusal of a pattern. */
export function patternError(source: string, reason: string): IsqError {
  const shown = source.length > LIMITS.patternLength ? `${source.slice(0, LIMITS.patternLength)}…` : source;
  const details = { field: "pattern", value: shown, limit: LIMITS.patternLength };
  return new IsqError("topology/pattern", `the pattern /${shown}/ cannot be used: ${reason}`, details);
}
