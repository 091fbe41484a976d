/**
 * What runs next. Jobs (texts that are continued, token lists that are scored) join and leave between steps; each step
 * runs the next rows of as many jobs as fit. Rows do not influence each other, so a job's logits have the same bits
 * whatever runs beside it, in whatever pieces, and after being sent back.
 *
 * Order: continued texts first, one row each; what is left of the step goes to prompts by arrival. When the cache has no
 * free block, the job that arrived last is sent back to wait and computed again later; a job that is alone fails.
 */

import type { Session } from "../backends/backend.js";
import { CACHE_BLOCK, type Program } from "../backends/program.js";
import type { IsqError } from "../errors.js";
import { type BlockPool, createBlockPool, createSequence, fullError } from "./cache.js";
import { createPause } from "./pause.js";
import { batchOf, cacheRoot, type Job, longestWindow, type Piece, type Running, wantedRows } from "./step.js";

export interface SchedulerOptions {
  /** Cache positions of the session, for all jobs together. */
  readonly cachePositions: number;
  /** Most jobs that run at the same time; others wait. 16 when absent. */
  readonly maxSequences?: number;
  /** Most rows of prompts in one step; {@link PROMPT_ROWS} when absent, and a quarter of them beside running texts. */
  readonly promptRows?: number;
  /** Texts share the cache of equal beginnings. */
  readonly reusePrefixes?: boolean;
  /** False: nothing is kept between steps, every token runs the whole text again. */
  readonly keepCache?: boolean;
}

/** How busy a scheduler is. */
export interface Load {
  readonly running: number;
  readonly waiting: number;
  readonly maxSequences: number;
  readonly cacheBlocks: number;
  readonly freeCacheBlocks: number;
}

/** Rows of one step when nothing but prompts run: enough to keep every kernel busy. */
export const PROMPT_ROWS = 256;

/** Free blocks that a text leaves when it takes one that it may need soon. */
const SPARE_BLOCKS = 1;

/** Owns the session: one thing at a time. */
export class Scheduler {
  readonly program: Program;
  readonly pool: BlockPool;
  readonly #session: Session;
  readonly #options: Required<SchedulerOptions>;
  readonly #window: number | null;
  readonly #pause = createPause();
  /** By arrival. */
  #running: Running[] = [];
  #waiting: Job[] = [];
  #turn: Promise<unknown> = Promise.resolve();
  #driving = false;
  /** The step that runs, and what stops it. */
  #step: { readonly pieces: readonly Piece[]; readonly abort: AbortController } | undefined;

  constructor(program: Program, session: Session, options: SchedulerOptions) {
    this.program = program;
    this.#session = session;
    this.#options = {
      maxSequences: 16,
      promptRows: PROMPT_ROWS,
      reusePrefixes: false,
      keepCache: true,
      ...options,
    };
    this.#window = longestWindow(program);
    this.pool = createBlockPool(options.cachePositions);
  }

  get load(): Load {
    return {
      running: this.#running.length,
      waiting: this.#waiting.length,
      maxSequences: this.#options.maxSequences,
      cacheBlocks: this.pool.blocks,
      freeCacheBlocks: this.pool.freeBlocks,
    };
  }

  /** Tokens of a job that the cache can hold when nothing else runs. */
  get longestPrompt(): number {
    const windowed =
      this.#window !== null && this.pool.blocks * CACHE_BLOCK >= this.#window + PROMPT_ROWS + CACHE_BLOCK;
    return windowed ? Number.POSITIVE_INFINITY : this.pool.blocks * CACHE_BLOCK;
  }

  /** Lets a job wait for its turn. The result ends it and frees its place at once, whatever it does at the time. */
  submit(job: Job): () => void {
    this.#waiting.push(job);
    this.wake();
    return () => this.#drop(job);
  }

  /** To be called when a job has become ready. */
  wake(): void {
    if (this.#driving) return;
    this.#driving = true;
    void this.#drive();
  }

  /** Runs `task` between two steps. */
  exclusively<Result>(task: (session: Session) => Result | Promise<Result>): Promise<Result> {
    const result = this.#turn.then(() => task(this.#session));
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Ends all jobs with `error`, and the step that runs. */
  stop(error: IsqError): void {
    for (const job of [...this.#running.map(({ job }) => job), ...this.#waiting]) this.#fail(job, error);
  }

  async #drive(): Promise<void> {
    for (;;) {
      await this.#pause();
      const pieces = this.#formStep();
      if (pieces.length === 0) break;
      await this.#runStep(pieces);
    }
    this.#driving = false; // in the turn in which nothing was ready: whatever becomes so wakes it again
  }

  async #runStep(pieces: readonly Piece[]): Promise<void> {
    const abort = new AbortController();
    const batch = batchOf(pieces);
    this.#step = { pieces, abort };
    try {
      const logits = await this.exclusively((session) => session.run(batch, abort.signal));
      this.#handOut(pieces, logits);
    } catch (error) {
      for (const { job } of pieces) this.#fail(job, error);
    } finally {
      this.#step = undefined;
    }
  }

  #handOut(pieces: readonly Piece[], logits: Float32Array): void {
    const { vocabulary } = this.program;
    let row = 0;
    for (const piece of pieces) {
      const { job, sequence, first, rows } = piece;
      const wanted = wantedRows(piece);
      const own = logits.subarray(row * vocabulary, (row + wanted) * vocabulary);
      row += wanted;
      if (!this.#isRunning(job)) continue;
      sequence.settle(job.tokens);
      if (!this.#options.keepCache && sequence.length === job.tokens.length) sequence.release();
      if (wanted === 0) continue;
      try {
        if (job.accept(own, first + rows - wanted)) this.#drop(job);
      } catch (error) {
        this.#fail(job, error);
      }
    }
  }

  /** The next rows of the jobs that can go on; their cache is theirs. */
  #formStep(): Piece[] {
    this.#admit();
    const pieces: Piece[] = [];
    const ready = this.#running.filter(({ job }) => job.ready);
    const isText = ({ job, sequence }: Running) => job.tokens.length - sequence.length === 1;
    for (const running of ready.filter(isText)) this.#addPiece(pieces, running, 1);
    const { promptRows } = this.#options;
    let left = pieces.length > 0 ? Math.ceil(promptRows / 4) : promptRows;
    /** Blocks that this step computes: who needs the same ones takes them from the cache in the next step. */
    const coming = new Set<string>();
    for (const running of ready) {
      if (left === 0) break;
      const { job, sequence } = running;
      if (pieces.some((piece) => piece.job === job) || !this.#isRunning(job)) continue;
      sequence.adopt(job.tokens, job.wanted);
      const key = sequence.nextKey(job.tokens, job.wanted);
      if (key !== null && coming.has(key)) continue;
      const rows = Math.min(left, job.stepRows, job.tokens.length - sequence.length);
      if (rows > 0 && this.#addPiece(pieces, running, rows)) left -= rows;
      if (key !== null) coming.add(key);
    }
    return pieces;
  }

  /** Adds rows of a job to a step, if the cache can be had. */
  #addPiece(pieces: Piece[], running: Running, rows: number): boolean {
    const { job, sequence } = running;
    if (!this.#isRunning(job)) return false; // sent back for an earlier one
    while (sequence.missingBlocks(rows) > this.pool.freeBlocks) {
      const youngest = this.#running.at(-1)!;
      if (this.#running.length === 1) {
        this.#fail(job, fullError(sequence.length + rows, this.pool));
        return false;
      }
      const index = pieces.findIndex((piece) => piece.job === youngest.job);
      if (index >= 0) pieces.splice(index, 1);
      this.#running.pop();
      youngest.sequence.release();
      this.#waiting.unshift(youngest.job);
      if (youngest === running) return false;
    }
    const first = sequence.length;
    sequence.extend(rows);
    const { ahead } = this.#session;
    const isAlone = this.#running.length === 1 && job.tokens.length - first === 1;
    if (ahead && isAlone) sequence.reserve(ahead, SPARE_BLOCKS);
    pieces.push({ ...running, first, rows });
    return true;
  }

  /** Lets waiting jobs run while there is room for what they have and for the rest of the prompts that run. */
  #admit(): void {
    const { pool } = this;
    const { maxSequences, reusePrefixes } = this.#options;
    const { contextLength } = this.program;
    const window = this.#window;
    while (this.#waiting.length > 0 && this.#running.length < maxSequences) {
      const job = this.#waiting[0];
      const root = cacheRoot(this.program, job);
      const sequence = createSequence(pool, { contextLength, window, reuse: reusePrefixes, root });
      const wanted = [...this.#running, { job, sequence }].reduce(
        (sum, one) => sum + this.#missingOf(one),
        0,
      );
      if (this.#running.length > 0 && wanted > pool.freeBlocks) return;
      this.#waiting.shift();
      this.#running.push({ job, sequence });
    }
  }

  /** Blocks that a job still needs for the tokens it has. */
  #missingOf({ job, sequence }: Running): number {
    const positions = job.tokens.length - sequence.length;
    return sequence.missingBlocks(this.#window === null ? positions : Math.min(positions, this.#window));
  }

  #isRunning(job: Job): boolean {
    return this.#running.some((running) => running.job === job);
  }

  #drop(job: Job): void {
    this.#waiting = this.#waiting.filter((waiting) => waiting !== job);
    const running = this.#running.find((one) => one.job === job);
    this.#running = this.#running.filter((one) => one !== running);
    running?.sequence.release();
    const step = this.#step;
    if (step && !step.pieces.some((piece) => this.#isRunning(piece.job))) step.abort.abort();
    this.wake(); // its place is free
  }

  #fail(job: Job, error: unknown): void {
    if (!this.#isRunning(job) && !this.#waiting.includes(job)) return;
    this.#drop(job);
    job.fail(error);
  }
}
