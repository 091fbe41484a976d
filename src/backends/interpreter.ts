/**
 * Walks a {@link Program} for a {@link Batch}. The walk knows the order of the work and how it divides; {@link Kernels}
 * know where slots, weights and cache live. Each operation is one or two phases of independent units, so that several
 * parts (workers, each with the same program and batch) can do a share of every phase and meet at the barrier.
 * A unit's result depends on nothing but its inputs: any number of parts gives the same bits.
 */

import { IsqError } from "../errors.js";
import type { Batch, Op, Program, Slot } from "./program.js";
import { CACHE_BLOCK } from "./program.js";

export type OpOf<Kind extends Op["kind"]> = Extract<Op, { kind: Kind }>;

/** One share of the work: part `index` of `count`. */
export interface Part {
  readonly index: number;
  readonly count: number;
}

export const WHOLE: Part = { index: 0, count: 1 };

/** What a backend does for units `first` (included) to `last` (excluded) of a phase. */
export interface Kernels {
  /** Unit: row of `out`. */
  embed(op: OpOf<"embed">, first: number, last: number): void;
  /** Unit: run of `op.width` elements. */
  rmsNorm(op: OpOf<"rmsNorm">, first: number, last: number): void;
  /** Unit: row of `x`. Brings rows of activations into the form the weight's dot wants. */
  prepare(op: OpOf<"linear">, first: number, last: number): void;
  /** Unit: output (row of the weight), for all rows of `x`. */
  linear(op: OpOf<"linear">, first: number, last: number): void;
  /** Unit: head of a row; unit u is head u mod heads of row ⌊u / heads⌋. */
  rope(op: OpOf<"rope">, first: number, last: number): void;
  /** Unit: row. Puts keys and values into the cache. */
  store(op: OpOf<"attention">, first: number, last: number): void;
  /** Unit: query head of a row, as in rope. */
  attend(op: OpOf<"attention">, first: number, last: number): void;
  /** Unit: element. */
  gate(op: OpOf<"gate">, first: number, last: number): void;
  /** Unit: element. */
  add(op: OpOf<"add">, first: number, last: number): void;
  /** Unit: row of `out`. */
  select(op: OpOf<"select">, first: number, last: number): void;
}

/** Elements are handed out in multiples of this, so that SIMD lanes and cache lines are not shared between parts. */
const ELEMENT_GRAIN = 16;
/** Outputs of a linear likewise: 16 neighbouring results are one cache line. */
const OUTPUT_GRAIN = 16;

/**
 * Runs one step. `barrier` returns once all parts have arrived; with one part it does nothing. When this returns (in
 * all parts) the logits slot is complete.
 */
export function walk(
  program: Program,
  batch: Batch,
  kernels: Kernels,
  part: Part = WHOLE,
  barrier: () => void = () => {},
): void {
  for (const op of program.ops) runOp(program, batch, kernels, op, part, barrier);
}

function runOp(
  program: Program,
  batch: Batch,
  kernels: Kernels,
  op: Op,
  part: Part,
  barrier: () => void,
): void {
  const phase = (units: number, grain: number, run: (first: number, last: number) => void) => {
    const first = shareStart(units, grain, part.index, part.count);
    const last = shareStart(units, grain, part.index + 1, part.count);
    if (first < last) run(first, last);
    barrier();
  };
  const rows = (slot: Slot) => rowsOf(program, batch, slot);
  const elements = (slot: Slot) => rows(slot) * program.slots[slot].width;
  switch (op.kind) {
    case "embed":
      phase(rows(op.out), 1, (first, last) => kernels.embed(op, first, last));
      break;
    case "rmsNorm":
      phase(elements(op.x) / op.width, 1, (first, last) => kernels.rmsNorm(op, first, last));
      break;
    case "linear":
      phase(rows(op.x), 1, (first, last) => kernels.prepare(op, first, last));
      phase(program.slots[op.out].width, OUTPUT_GRAIN, (first, last) => kernels.linear(op, first, last));
      break;
    case "rope":
      phase(elements(op.x) / op.headWidth, 1, (first, last) => kernels.rope(op, first, last));
      break;
    case "attention":
      phase(rows(op.k), 1, (first, last) => kernels.store(op, first, last));
      phase(rows(op.q) * op.heads, 1, (first, last) => kernels.attend(op, first, last));
      break;
    case "gate":
      phase(elements(op.out), ELEMENT_GRAIN, (first, last) => kernels.gate(op, first, last));
      break;
    case "add":
      phase(elements(op.out), ELEMENT_GRAIN, (first, last) => kernels.add(op, first, last));
      break;
    case "select":
      phase(rows(op.out), 1, (first, last) => kernels.select(op, first, last));
      break;
  }
}

/** Rows a slot has in this batch. */
export function rowsOf(program: Program, batch: Batch, slot: Slot): number {
  return program.slots[slot].rows === "tokens" ? batch.tokens.length : batch.outputs.length;
}

/** First unit of share `index` when `units` are dealt out in multiples of `grain`, as evenly as that allows. */
export function shareStart(units: number, grain: number, index: number, count: number): number {
  const grains = Math.ceil(units / grain);
  return Math.min(units, Math.floor((grains * index) / count) * grain);
}

/**
 * Refuses a batch that would read or write outside of the program: `prompt/empty`, `prompt/token`, `prompt/length`, and
 * `shape/mismatch` for arrays that disagree. `blocks` is how many cache blocks the session has.
 */
export function checkBatch(program: Program, batch: Batch, blocks: number): void {
  const { tokens, positions, sequences, blockTables, outputs } = batch;
  if (tokens.length === 0) throw new IsqError("prompt/empty", "a step needs at least one token");
  if (positions.length !== tokens.length || sequences.length !== tokens.length) {
    throw new IsqError("shape/mismatch", "tokens, positions and sequences of a batch differ in length", {
      value: [positions.length, sequences.length],
      limit: tokens.length,
    });
  }
  for (let row = 0; row < tokens.length; row++) {
    checkToken(tokens[row], program.vocabulary, row);
    const table = blockTables[sequences[row]];
    const block = table?.[Math.floor(positions[row] / CACHE_BLOCK)];
    if (block === undefined || !(block >= 0 && block < blocks) || positions[row] >= program.contextLength) {
      throw new IsqError(
        "prompt/length",
        `position ${positions[row]} of row ${row} has no place in the cache`,
        {
          field: "positions",
          value: positions[row],
          limit: Math.min(program.contextLength, (table?.length ?? 0) * CACHE_BLOCK),
        },
      );
    }
  }
  for (const row of outputs) {
    if (row >= 0 && row < tokens.length) continue;
    throw new IsqError("shape/mismatch", `output row ${row} is not in a batch of ${tokens.length}`, {
      field: "outputs",
      value: row,
      limit: tokens.length,
    });
  }
}

/** Throws `prompt/token` unless `token` is a row of the embedding. */
export function checkToken(token: number, vocabulary: number, index: number): void {
  if (Number.isInteger(token) && token >= 0 && token < vocabulary) return;
  throw new IsqError(
    "prompt/token",
    `token ${token} at index ${index} is outside the vocabulary of ${vocabulary}`,
    {
      field: "tokens",
      value: token,
      index,
      limit: vocabulary - 1,
    },
  );
}
