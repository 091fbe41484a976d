/** Ends a text at whichever of some strings is complete first; they may be spread over any number of pieces. */

import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";

export interface Stopper {
  /** The text that is certain not to belong to a stop string; what might is held back. */
  push(text: string): string;
  /** True once a stop string is complete: what {@link push} gave then was the rest before it. */
  readonly stopped: boolean;
  /** What was held back. */
  flush(): string;
}

/** Throws `option/invalid` for an empty string, one that is too long, or too many. */
export function createStopper(stop: string | readonly string[]): Stopper {
  const stops = typeof stop === "string" ? [stop] : stop;
  checkStops(stops);
  let held = "";
  let stopped = false;
  return {
    get stopped() {
      return stopped;
    },
    push(text) {
      held += text;
      const first = findFirst(held, stops);
      stopped = first >= 0;
      const end = stopped ? first : held.length - possibleStart(held, stops);
      const out = held.slice(0, end);
      held = stopped ? "" : held.slice(end);
      return out;
    },
    flush() {
      const rest = held;
      held = "";
      return rest;
    },
  };
}

/** Where the string starts that is complete first, the longest of those that end together; -1 without any. */
function findFirst(text: string, stops: readonly string[]): number {
  let [start, end] = [-1, Number.POSITIVE_INFINITY];
  for (const stop of stops) {
    const index = text.indexOf(stop);
    if (index < 0 || index + stop.length > end || (index + stop.length === end && index > start)) continue;
    [start, end] = [index, index + stop.length];
  }
  return start;
}

/** Characters at the end of a text that begin some stop string. */
function possibleStart(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}

function checkStops(stops: readonly string[]): void {
  const refuse = (what: string, value: unknown, limit: number) => {
    throw new IsqError("option/invalid", `stop ${what}`, { field: "stop", value, limit });
  };
  if (stops.length > LIMITS.stopStrings) {
    refuse(
      `may have at most ${LIMITS.stopStrings} strings, not ${stops.length}`,
      stops.length,
      LIMITS.stopStrings,
    );
  }
  for (const { length } of stops) {
    if (length >= 1 && length <= LIMITS.stopLength) continue;
    refuse(
      `strings must have 1 to ${LIMITS.stopLength} characters, not ${length}`,
      length,
      LIMITS.stopLength,
    );
  }
}
