/** One step of a scheduler: rows of several jobs as one {@link Batch}. */

import type { Batch, Program } from "../backends/program.js";
import type { Link, SequenceCache } from "./cache.js";

/** Tokens to run, and who gets the logits. */
export interface Job {
  /** Grows at the end while the job runs. */
  readonly tokens: number[];
  /** Tokens that were there from the start: they are one call, those after them a call each. */
  readonly promptTokens: number;
  /** Most rows of one step. */
  readonly stepRows: number;
  /** Logits are wanted of the tokens from this index on. */
  wanted: number;
  /** False while nobody takes what it made. */
  ready: boolean;
  /**
   * Takes the logits of the tokens from index `first` on, [rows × vocabulary], valid during the call. True: the job is
   * done. What it throws goes to {@link fail}.
   */
  accept(logits: Float32Array, first: number): boolean;
  /** The job is over. */
  fail(error: unknown): void;
}

/** A job that has a place. */
export interface Running {
  readonly job: Job;
  readonly sequence: SequenceCache;
}

/** The rows of one job in a step. */
export interface Piece extends Running {
  readonly first: number;
  readonly rows: number;
}

export function batchOf(pieces: readonly Piece[]): Batch {
  const rows = pieces.flatMap(({ first, rows }, sequence) =>
    Array.from({ length: rows }, (_, row) => ({ index: first + row, sequence })),
  );
  const outputs: number[] = [];
  let end = 0;
  for (const piece of pieces) {
    end += piece.rows;
    for (let row = end - wantedRows(piece); row < end; row++) outputs.push(row);
  }
  return {
    tokens: Int32Array.from(rows, ({ index, sequence }) => pieces[sequence].job.tokens[index]),
    positions: Int32Array.from(rows, ({ index }) => index),
    sequences: Int32Array.from(rows, ({ sequence }) => sequence),
    blockTables: pieces.map(({ sequence }) => sequence.table),
    outputs: Int32Array.from(outputs),
    callLengths: Int32Array.from(rows, ({ index, sequence }) =>
      Math.max(pieces[sequence].job.promptTokens, index + 1),
    ),
  };
}

/** How many of a piece's rows give logits: the last ones. */
export function wantedRows({ job, first, rows }: Piece): number {
  return Math.min(rows, Math.max(0, first + rows - job.wanted));
}

/** Positions that some layer looks back at, or null when one looks at all. */
export function longestWindow({ ops }: Program): number | null {
  let longest = 0;
  for (const op of ops) {
    if (op.kind !== "attention") continue;
    if (op.window === null) return null;
    longest = Math.max(longest, op.window);
  }
  return longest;
}

/** No published block has this link: those count from 0. */
const LONG_ROOT = -1;

/** Texts that share keys and values have the same root: whether their prompt is so long that all of it is rotated otherwise. */
export function cacheRoot({ ops }: Program, { promptTokens }: Job): Link {
  const isLong = ops.some((op) => op.kind === "rope" && op.long && promptTokens > op.long.beyond);
  return isLong ? LONG_ROOT : null;
}
