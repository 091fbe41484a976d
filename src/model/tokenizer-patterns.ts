/**
 * The patterns of a tokenizer.json. They run on every prompt, in the runtime's own engine, which goes back and tries again:
 * what lets the same text be cut in exponentially many ways would never end (CWE-1333). Patterns of real tokenizers repeat
 * single characters and sets, two in a row.
 */

import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";

interface Group {
  /** Whether it can match in several ways: it has alternatives, options or repetitions. */
  varies: boolean;
  /** Open repetitions in a row: of this alternative, and the most of those before it. */
  row: number;
  most: number;
}

/** Where patterns are; the vocabulary has none, and is large. */
const PARTS = ["normalizer", "pre_tokenizer", "post_processor", "decoder"];

/** Throws `tokenizer/invalid` for a pattern that could take exponential time, or a high power of the text's length. */
export function checkTokenizerPatterns(tokenizer: Readonly<Record<string, unknown>>, file: string): void {
  const waiting: unknown[] = PARTS.map((part) => tokenizer[part]);
  while (waiting.length > 0) {
    const value = waiting.pop();
    if (typeof value !== "object" || value === null) continue;
    for (const [field, item] of Object.entries(value)) {
      waiting.push(item);
      const reason = field === "Regex" && typeof item === "string" ? findReason(item) : null;
      if (reason === null) continue;
      const message = `${file} has the pattern ${JSON.stringify(item)}, which could take forever: ${reason}`;
      throw new IsqError("tokenizer/invalid", message, { file, field, value: item, reason });
    }
  }
}

/** What follows the parenthesis of a group that is more than a group. */
const PREFIX = /\?(?:<[=!]|<\w+>|[a-z-]*:|[=!>])/iy;
const QUANTIFIER = /(?:[*+?]|\{\d+(?:,\d*)?\})[?+]?/y;

function matchAt(pattern: RegExp, source: string, at: number): string {
  pattern.lastIndex = at;
  return pattern.exec(source)?.[0] ?? "";
}

/** Why a pattern is refused; null for one that may run. What is no pattern at all is left to the engine. */
function findReason(source: string): string | null {
  const groups: Group[] = [{ varies: false, row: 0, most: 0 }];
  let at = 0;
  while (at < source.length) {
    const group = groups[groups.length - 1];
    const character = source[at];
    let closed: Group | undefined;
    if (character === "(") {
      at += 1 + matchAt(PREFIX, source, at + 1).length;
      groups.push({ varies: false, row: 0, most: 0 });
      continue;
    }
    if (character === "|") {
      Object.assign(group, { varies: true, row: 0, most: Math.max(group.most, group.row) });
      at++;
      continue;
    }
    if (character === "\\" && /[1-9k]/.test(source[at + 1] ?? "")) return "it refers back";
    if (character === ")" && groups.length > 1) closed = groups.pop();
    at = character === "[" ? endOfSet(source, at) : at + (character === "\\" ? 2 : 1);
    const quantifier = matchAt(QUANTIFIER, source, at);
    at += quantifier.length;
    const reason = addAtom(groups[groups.length - 1], closed, quantifier);
    if (reason !== null) return reason;
  }
  return null;
}

/** Takes a character, a set or a closed group, and how often it may be there, into the group around it. */
function addAtom(outer: Group, closed: Group | undefined, quantifier: string): string | null {
  const isFixed = /^(?:$|\{\d+\})/.test(quantifier);
  const isOnce = /^(?:$|\?|\{(?:0,)?1\})/.test(quantifier);
  if (closed?.varies && !isOnce) return "it repeats a group that can match in several ways";
  outer.varies ||= !isFixed || (closed?.varies ?? false);
  outer.row += Math.max(closed?.most ?? 0, closed?.row ?? 0) + (isFixed || isOnce ? 0 : 1);
  const limit = LIMITS.tokenizerRepetitions;
  return outer.row > limit ? `it has more than ${limit} open repetitions in a row` : null;
}

/** Behind the bracket that closes a set. */
function endOfSet(source: string, start: number): number {
  let at = start + 1;
  while (at < source.length && source[at] !== "]") at += source[at] === "\\" ? 2 : 1;
  return at + 1;
}
