/**
 * Steps ahead of their turn. While the host looks at the logits of a step, the GPU runs the step that follows if the likeliest
 * token is taken, and one more after it: it is not idle between tokens. A step whose token, position or cache turn out to be
 * others is thrown away; what it wrote into the cache is written again before anything reads it.
 */

import { callLengthsOf } from "./interpreter.js";
import { type Batch, CACHE_BLOCK } from "./program.js";

/** What a step on the GPU gives: its logits, and the likeliest token where the step is one that can be followed. */
export interface StepResult {
  readonly logits: Float32Array;
  readonly choice: number | null;
}

/** Steps that followed as expected before one more is run ahead: of texts that are drawn by chance few are. */
const TRUST = 2;

export class Ahead {
  readonly #most: number;
  readonly #contextLength: number;
  /** Runs a step whose token is what the step before it chose. Null where that cannot be now. */
  readonly #start: (batch: Batch) => Promise<StepResult> | null;
  /** The step that follows the last one that was asked for, and its token. */
  #expected: { readonly batch: Batch; readonly token: number } | null = null;
  /** Steps that run ahead, from the expected one on. */
  #running: { readonly batch: Batch; readonly result: Promise<StepResult> }[] = [];
  #right = 0;

  constructor(most: number, contextLength: number, start: (batch: Batch) => Promise<StepResult> | null) {
    this.#most = most;
    this.#contextLength = contextLength;
    this.#start = start;
  }

  /** The result of a step: that of one which runs already, or else of `run`. Starts those that come next. */
  async step(batch: Batch, run: () => Promise<StepResult>): Promise<Float32Array> {
    const result = this.#take(batch) ?? run();
    this.#fill(batch);
    const { logits, choice } = await result;
    const next = choice === null ? null : this.#after(batch);
    this.#expected = next && { batch: next, token: choice! };
    return logits;
  }

  /** To be called when something that steps read changes. */
  forget(): void {
    this.#expected = null;
    this.#running = [];
  }

  #take(batch: Batch): Promise<StepResult> | null {
    const isExpected =
      this.#expected !== null &&
      batch.tokens[0] === this.#expected.token &&
      isSame(batch, this.#expected.batch);
    this.#right = isExpected ? this.#right + 1 : 0;
    if (!isExpected) this.forget();
    return this.#running.shift()?.result ?? null;
  }

  #fill(batch: Batch): void {
    const count = Math.min(this.#most, Math.floor(this.#right / TRUST));
    while (this.#running.length < count) {
      const next = this.#after(this.#running.at(-1)?.batch ?? batch);
      const result = next && this.#start(next);
      if (!result) return;
      result.catch(() => {}); // whoever takes it sees the error
      this.#running.push({ batch: next, result });
    }
  }

  /** The step after one of a single row, but for its token; null where it has no place in the blocks that are there. */
  #after(batch: Batch): Batch | null {
    const { tokens, outputs, blockTables } = batch;
    if (tokens.length !== 1 || outputs.length !== 1 || blockTables.length !== 1) return null;
    const position = batch.positions[0] + 1;
    if (position >= this.#contextLength) return null;
    return {
      ...batch,
      positions: Int32Array.of(position),
      callLengths: Int32Array.of(Math.max(callLengthsOf(batch)[0], position + 1)),
      blockTables: [blockTables[0].slice()],
    };
  }
}

/** Whether a step is the expected one. Its table may have grown. */
function isSame(batch: Batch, expected: Batch): boolean {
  const [table] = expected.blockTables;
  return (
    batch.tokens.length === 1 &&
    batch.outputs.length === 1 &&
    batch.blockTables.length === 1 &&
    batch.positions[0] === expected.positions[0] &&
    callLengthsOf(batch)[0] === expected.callLengths![0] &&
    table.every((block, i) => batch.blockTables[0][i] === block)
  );
}

/** Whether the step's position is in a block that its table has. */
export const hasPlace = ({ positions, blockTables }: Batch): boolean =>
  Math.floor(positions[0] / CACHE_BLOCK) < blockTables[0].length;
