/** Walking a {@link Program} for a {@link Batch}, what a batch must be, and how work is dealt out. */

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

/** What a backend does for each kind of operation. */
export type Kernels = { readonly [Kind in Op["kind"]]: (op: OpOf<Kind>) => void };

/** Runs one operation. */
export function runOp(kernels: Kernels, op: Op): void {
  (kernels[op.kind] as (op: Op) => void)(op);
}

const NO_ROWS = new Int32Array(0);

/** What a session has before its first step. */
export const NO_BATCH: Batch = {
  tokens: NO_ROWS,
  positions: NO_ROWS,
  sequences: NO_ROWS,
  blockTables: [],
  outputs: NO_ROWS,
};

/** Rows a slot has in this batch. */
export function rowsOf(program: Program, batch: Batch, slot: Slot): number {
  const { rows, rowsPerToken = 1 } = program.slots[slot];
  return rows === "tokens" ? batch.tokens.length * rowsPerToken : batch.outputs.length;
}

/** For each row of a batch its `callLengths`, or what stands for them. */
export function callLengthsOf({ callLengths, positions, sequences }: Batch): Int32Array {
  if (callLengths) return callLengths;
  const lengths = new Map<number, number>();
  for (let row = 0; row < positions.length; row++) {
    lengths.set(sequences[row], Math.max(lengths.get(sequences[row]) ?? 0, positions[row] + 1));
  }
  return Int32Array.from(sequences, (sequence) => lengths.get(sequence)!);
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
  const { tokens, positions, sequences, blockTables, outputs, callLengths } = batch;
  if (tokens.length === 0) throw new IsqError("prompt/empty", "a step needs at least one token");
  for (const [field, list] of Object.entries({ positions, sequences, callLengths: callLengths ?? tokens })) {
    if (list.length === tokens.length) continue;
    throw new IsqError("shape/mismatch", `tokens and ${field} of a batch differ in length`, {
      field,
      value: list.length,
      limit: tokens.length,
    });
  }
  for (let row = 0; row < tokens.length; row++) {
    checkToken(tokens[row], program.tokenRows ?? program.vocabulary, row);
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
