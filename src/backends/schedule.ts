/**
 * How a team runs a program. A slot is either local (every member computes all of it for itself) or shared (every member
 * writes its own columns; all may read it once they have met). Linears, attention and what follows them element by
 * element are split by columns; norms over whole rows are done by everybody. So a decoder block needs about four
 * meetings, before whatever looks at columns of others.
 */

import { IsqError } from "../errors.js";
import { type Part, shareStart } from "./interpreter.js";
import type { Op, Program, Slot } from "./program.js";

export type Columns = readonly [first: number, last: number];

export interface ScheduledOp {
  readonly op: Op;
  /** The team meets before this operation. */
  readonly barrier: boolean;
}

export interface Schedule {
  readonly ops: readonly ScheduledOp[];
  /** By slot: in memory that all members see. */
  readonly shared: readonly boolean[];
  /** By slot: shares are multiples of this many columns. */
  readonly grains: readonly number[];
}

/** One cache line of floats: neighbouring members do not write to the same one. */
const DEFAULT_GRAIN = 16;

/** Columns of a slot that a member writes. */
export function columnsOf(program: Program, schedule: Schedule, slot: Slot, part: Part): Columns {
  const { width } = program.slots[slot];
  if (!schedule.shared[slot]) return [0, width];
  const grain = schedule.grains[slot];
  return [
    shareStart(width, grain, part.index, part.count),
    shareStart(width, grain, part.index + 1, part.count),
  ];
}

/** What an operation does to slots. */
interface Access {
  /** Read in all columns. */
  readonly whole: readonly Slot[];
  /** Read in the columns that are written: these are the same of all. */
  readonly own: readonly Slot[];
  readonly outs: readonly Slot[];
  /** True when the work itself is split, whatever its inputs are. */
  readonly splits: boolean;
}

function accessOf(op: Op, program: Program): Access {
  const wholly = (whole: readonly Slot[], ...outs: Slot[]) => ({ whole, own: [], outs, splits: false });
  const columnwise = (own: readonly Slot[], out: Slot) => ({ whole: [], own, outs: [out], splits: false });
  switch (op.kind) {
    case "embed":
      return wholly([], op.out);
    case "rmsNorm":
      return isByHeads(op, program) ? columnwise([op.x], op.out) : wholly([op.x], op.out);
    case "layerNorm":
    case "copy":
    case "select":
      return wholly([op.x], op.out);
    case "linear":
      return { ...wholly([op.x], op.out), splits: true };
    case "rope":
      return columnwise([op.x], op.x);
    case "attention":
      return { ...columnwise([op.q, op.k, op.v], op.out), splits: true };
    case "gate":
      return columnwise([op.gate, op.up], op.out);
    case "add":
      return columnwise([op.a, op.b], op.out);
    case "activate":
    case "scale":
    case "softcap":
      return columnwise([op.x], op.out);
    case "route":
      return wholly([op.x], op.chosen, op.weights);
    case "expertLinear":
      return { ...wholly([op.x, op.chosen], op.out), splits: true };
    case "combine":
      return { ...columnwise([op.x], op.out), whole: [op.weights] };
  }
}

/** Norms of runs within a row, and norms in place: those of heads that stay with their member. */
function isByHeads({ x, out, width }: Extract<Op, { kind: "rmsNorm" }>, { slots }: Program): boolean {
  return width < slots[x].width || x === out;
}

export function makeSchedule(program: Program, members: number): Schedule {
  const accesses = program.ops.map((op) => accessOf(op, program));
  const shared = members === 1 ? program.slots.map(() => false) : findShared(program, accesses);
  const grains = findGrains(program);
  const waiting = new Set<Slot>(); // written since the last meeting: others have not seen it
  const reading = new Set<Slot>(); // read in all columns since the last meeting: others may still do so
  const ops = program.ops.map((op, i): ScheduledOp => {
    const { whole, outs } = accesses[i];
    if (outs.some((out) => shared[out] && whole.includes(out))) {
      throw new Error(`${op.kind} would write what other members read`); // a defect of the program
    }
    const unseen = whole.some((slot) => shared[slot] && waiting.has(slot));
    const barrier = unseen || outs.some((out) => shared[out] && reading.has(out));
    if (barrier) {
      waiting.clear();
      reading.clear();
    }
    for (const slot of whole) if (shared[slot]) reading.add(slot);
    for (const out of outs) if (shared[out]) waiting.add(out);
    return { op, barrier };
  });
  return { ops, shared, grains };
}

/** Outputs of split work, and what is made of them column by column. */
function findShared(program: Program, accesses: readonly Access[]): boolean[] {
  const shared = program.slots.map(() => false);
  for (let changed = true; changed; ) {
    changed = false;
    for (const { own, outs, splits } of accesses) {
      if (!(splits || own.some((slot) => shared[slot]))) continue;
      for (const out of outs) {
        if (shared[out]) continue;
        shared[out] = true;
        changed = true;
      }
    }
    // A head's keys and values stay with the member that attends to them.
    for (const op of program.ops) {
      if (op.kind !== "attention") continue;
      for (const slot of [op.q, op.k, op.v]) {
        if (shared[slot]) continue;
        shared[slot] = true;
        changed = true;
      }
    }
  }
  return shared;
}

function findGrains(program: Program): number[] {
  const grains = program.slots.map(() => 0);
  const atLeast = (slot: Slot, grain: number) => {
    if (grain === 0 || grains[slot] === grain) return false;
    const common = grains[slot] === 0 ? grain : leastCommonMultiple(grains[slot], grain);
    if (common === grains[slot]) return false;
    grains[slot] = common;
    return true;
  };
  const equal = (...slots: Slot[]) => {
    const common = slots.reduce(
      (grain, slot) => (grains[slot] === 0 ? grain : leastCommonMultiple(grain, grains[slot])),
      1,
    );
    return common > 1 && slots.map((slot) => atLeast(slot, common)).includes(true);
  };
  for (const op of program.ops) {
    if (op.kind === "attention") {
      const group = op.heads / op.kvHeads;
      atLeast(op.q, group * op.headWidth);
      atLeast(op.k, op.headWidth);
      atLeast(op.v, op.valueWidth);
      atLeast(op.out, group * op.valueWidth);
    }
    if (op.kind === "rope") atLeast(op.x, op.headWidth);
    if (op.kind === "rmsNorm" && isByHeads(op, program)) atLeast(op.x, op.width);
  }
  for (let changed = true; changed; ) {
    changed = false;
    for (const op of program.ops) {
      // Attention has heads of its own widths.
      if (op.kind === "attention") continue;
      const { own, outs } = accessOf(op, program);
      if (own.length > 0) changed = equal(...own, ...outs) || changed;
    }
  }
  checkHeads(program, grains);
  return grains.map((grain) => (grain === 0 ? DEFAULT_GRAIN : grain));
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}

/** Shares of queries, keys and values must be the same heads. */
function checkHeads({ ops, slots }: Program, grains: readonly number[]): void {
  for (const op of ops) {
    if (op.kind !== "attention") continue;
    for (const slot of [op.q, op.k, op.v, op.out]) {
      if (slots[slot].width / grains[slot] === op.kvHeads) continue;
      throw new IsqError("option/unsupported", `${slots[slot].name} cannot be split by ${op.kvHeads} heads`, {
        field: "heads",
        value: op.heads,
        limit: op.kvHeads,
      });
    }
  }
}
