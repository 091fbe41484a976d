/**
 * Regular expressions for tensor names that run in linear time: a set of states walks over the name, so no pattern can
 * backtrack for ever (CWE-1333). The syntax is what JavaScript and Rust's regex have in common without look-around and
 * back-references. A pattern matches anywhere in a name unless it is anchored.
 */

import { LIMITS } from "./limits.js";
import { type Node, parsePattern, patternError } from "./pattern-parse.js";

/** What a topology rule needs of a pattern; a RegExp is one as well. */
export interface NamePattern {
  readonly source: string;
  /** Whether the pattern is anywhere in the name. */
  test(name: string): boolean;
}

/** A state: waits for a character, holds at a place, splits, or is the end. `next` are indices of states. */
type State =
  | { readonly kind: "character"; readonly matches: (code: number) => boolean; readonly next: number }
  | { readonly kind: "assert"; readonly holds: (name: string, at: number) => boolean; readonly next: number }
  | { readonly kind: "split"; next: number[] }
  | { readonly kind: "end" };

/** Compiles a pattern. Throws `topology/pattern` for syntax that is wrong, unsupported or too large. */
export function compilePattern(source: string): NamePattern {
  if (source.length > LIMITS.patternLength) {
    throw patternError(source, `it is longer than ${LIMITS.patternLength} characters`);
  }
  const states: State[] = [{ kind: "end" }];
  const start = build({ source, states, steps: 0 }, parsePattern(source), 0);
  return Object.freeze({ source, test: (name: string) => run(states, start, name) });
}

interface Draft {
  readonly source: string;
  readonly states: State[];
  /** Nodes visited; repetitions visit theirs again, and even empty ones take time. */
  steps: number;
}

/** Adds the states of a node that goes on to the state `next`, and returns where it starts. */
function build(draft: Draft, node: Node, next: number): number {
  const { states, source } = draft;
  if (++draft.steps > LIMITS.patternStates) {
    throw patternError(source, `its repetitions need more than ${LIMITS.patternStates} states`);
  }
  const add = (state: State): number => states.push(state) - 1;
  switch (node.kind) {
    case "character":
      return add({ kind: "character", matches: node.matches, next });
    case "assert":
      return add({ kind: "assert", holds: node.holds, next });
    case "sequence":
      return node.items.reduceRight((after, item) => build(draft, item, after), next);
    case "either":
      return add({ kind: "split", next: node.items.map((item) => build(draft, item, next)) });
    case "repeat":
      return buildRepeat(draft, node, next);
  }
}

function buildRepeat(draft: Draft, node: Node & { kind: "repeat" }, next: number): number {
  const { item, least, most } = node;
  const loop: State = { kind: "split", next: [] };
  let start = next;
  if (most === Number.POSITIVE_INFINITY) {
    start = draft.states.push(loop) - 1;
    loop.next = [build(draft, item, start), next];
  } else {
    for (let i = least; i < most; i++) {
      start = draft.states.push({ kind: "split", next: [build(draft, item, start), next] }) - 1;
    }
  }
  for (let i = 0; i < least; i++) start = build(draft, item, start);
  return start;
}

/** Walks over the name with all states that can be active at once: at most states × characters steps. */
function run(states: readonly State[], start: number, name: string): boolean {
  let active = new Set<number>();
  for (let at = 0; at <= name.length; at++) {
    // A match may begin at every place.
    reach(states, start, name, at, active);
    if (active.has(0)) return true;
    const next = new Set<number>();
    for (const index of active) {
      const state = states[index];
      if (state.kind !== "character" || at === name.length || !state.matches(name.charCodeAt(at))) continue;
      reach(states, state.next, name, at + 1, next);
    }
    active = next;
  }
  return active.has(0);
}

/** Adds a state and what can be reached from it without reading a character. */
function reach(states: readonly State[], from: number, name: string, at: number, active: Set<number>): void {
  const waiting = [from];
  while (waiting.length > 0) {
    const index = waiting.pop() as number;
    if (active.has(index)) continue;
    active.add(index);
    const state = states[index];
    if (state.kind === "split") waiting.push(...state.next);
    else if (state.kind === "assert" && state.holds(name, at)) waiting.push(state.next);
  }
}
