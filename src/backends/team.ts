/**
 * Work that several threads do together. Each member calls the same function with its own {@link Team}; they share
 * typed arrays and meet at the barrier. One thread alone is a team of one.
 */

import { IsqError } from "../errors.js";
import { type Part, shareStart, WHOLE } from "./interpreter.js";

export interface Team {
  readonly part: Part;
  /** Returns once all members have arrived. Throws `aborted` or `backend/worker` when the work is to stop. */
  barrier(): void;
  /** Throws as {@link barrier} does, without waiting. */
  check(): void;
  /** The next number, from 0, that no member has had since the last {@link restart}. */
  claim(): number;
  /** Starts counting from 0 again; all members call it, and it is a barrier. */
  restart(): void;
}

/** This member's share of `units` that are dealt out in multiples of `grain`. */
export function shareOf(units: number, grain: number, { index, count }: Part): [first: number, last: number] {
  return [shareStart(units, grain, index, count), shareStart(units, grain, index + 1, count)];
}

export function teamOfOne(): Team {
  let next = 0;
  return {
    part: WHOLE,
    barrier() {},
    check() {},
    claim: () => next++,
    restart() {
      next = 0;
    },
  };
}

/** Words of the state that the members of a team share. */
const ARRIVED = 0;
const GENERATION = 1;
const NEXT = 2;
const STOP = 3;
const RANKS = 4;
export const TEAM_WORDS = 8;

const STOPPED_BY_SIGNAL = 1;
const STOPPED_BY_FAILURE = 2;

/** How often a waiting member looks before it sleeps. Sleeping and waking takes some 50 µs, a look some nanoseconds. */
const LOOKS = 20_000;

/** The number of a new member. */
export function claimRank(state: Int32Array): number {
  return Atomics.add(state, RANKS, 1);
}

/** Tells all members to stop at the next barrier or check. */
export function stopTeam(state: Int32Array, why: "signal" | "failure"): void {
  Atomics.compareExchange(state, STOP, 0, why === "signal" ? STOPPED_BY_SIGNAL : STOPPED_BY_FAILURE);
  Atomics.notify(state, GENERATION);
}

/**
 * A member of a team over shared memory.
 * @param spin False where there are more members than processors: then waiting members only stand in the way.
 */
export function joinTeam(state: Int32Array, part: Part, spin: boolean): Team {
  const check = () => {
    const stop = Atomics.load(state, STOP);
    if (stop === STOPPED_BY_SIGNAL) throw new IsqError("aborted", "the work was aborted");
    if (stop === STOPPED_BY_FAILURE) throw new IsqError("backend/worker", "another worker failed");
  };
  const barrier = () => {
    const generation = Atomics.load(state, GENERATION);
    if (Atomics.add(state, ARRIVED, 1) === part.count - 1) {
      Atomics.store(state, ARRIVED, 0);
      Atomics.add(state, GENERATION, 1);
      Atomics.notify(state, GENERATION);
      check();
      return;
    }
    for (let look = 0; spin && look < LOOKS; look++) {
      if (Atomics.load(state, GENERATION) !== generation) return check();
    }
    while (Atomics.load(state, GENERATION) === generation) {
      check();
      Atomics.wait(state, GENERATION, generation, 100);
    }
    check();
  };
  return {
    part,
    barrier,
    check,
    claim: () => Atomics.add(state, NEXT, 1),
    restart() {
      barrier();
      Atomics.store(state, NEXT, 0);
      barrier();
    },
  };
}
