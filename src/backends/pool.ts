/** A pool of workers, whatever threads they are. A call is a team: one task for every worker, all at the same time. */

import { IsqError, isIsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import type { EncodeResult } from "./encode-job.js";
import { stopTeam, TEAM_WORDS } from "./team.js";
import type { TeamTask, WorkerAnswer, WorkerTask } from "./threads-protocol.js";

/** Worker threads of a runtime. */
export interface Crew {
  readonly members: number;
  /** Processors of the machine, as far as the runtime says. */
  readonly processors: number;
  /** Whether the workers read Blobs, and no paths. */
  readonly readsBlobs: boolean;
  /**
   * Gives a task to a worker that has none; at most `members` tasks run at a time. Rejects when the worker dies; then another
   * one takes its place.
   */
  run(task: WorkerTask): Promise<WorkerAnswer>;
  /** Ends the workers; what still runs rejects. */
  close(): Promise<void>;
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

type TaskOfTeam = DistributiveOmit<WorkerTask, keyof TeamTask>;

export interface Pool {
  readonly members: number;
  readonly isOpen: boolean;
  readonly readsBlobs: boolean;
  /**
   * Runs a task in every worker; resolves when all are done, with their results. Throws the error of the first that
   * failed, `aborted`, or `backend/worker` when a worker died; then the others have stopped too.
   */
  together(task: TaskOfTeam, signal?: AbortSignal): Promise<(EncodeResult | null)[]>;
  /** Ends the workers. */
  close(): Promise<void>;
}

/** Checks a number of workers. Throws `option/invalid`. */
export function checkWorkers(workers: number): number {
  if (Number.isSafeInteger(workers) && workers >= 1 && workers <= LIMITS.workers) return workers;
  throw new IsqError("option/invalid", `workers must be from 1 to ${LIMITS.workers}, not ${workers}`, {
    field: "workers",
    value: workers,
    limit: LIMITS.workers,
  });
}

/** Waits until the workers are ready. Throws `backend/unavailable` when they cannot start. */
export async function openPool(crew: Crew): Promise<Pool> {
  const pool = new TeamPool(crew);
  try {
    await pool.together({ kind: "hello" });
  } catch (cause) {
    await pool.close();
    if (!isIsqError(cause, "backend/worker")) throw cause;
    const message = `the threads backend cannot start: ${cause.message}`;
    throw new IsqError("backend/unavailable", message, { field: "backend", value: "threads" }, { cause });
  }
  return pool;
}

class TeamPool implements Pool {
  readonly #crew: Crew;
  readonly #spin: boolean;
  #isOpen = true;
  /** Teams take turns: a worker that is done early must not take a second place in the next team. */
  #turn: Promise<unknown> = Promise.resolve();
  /** After a death its successor must have started before a team is dealt out. */
  #greet = false;

  constructor(crew: Crew) {
    this.#crew = crew;
    this.#spin = crew.members <= crew.processors;
  }

  get members(): number {
    return this.#crew.members;
  }

  get readsBlobs(): boolean {
    return this.#crew.readsBlobs;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  together(task: TaskOfTeam, signal?: AbortSignal): Promise<(EncodeResult | null)[]> {
    const result = this.#turn.then(async () => {
      if (signal?.aborted) throw abortedError(signal);
      if (this.#greet) {
        await this.#run({ kind: "hello" });
        this.#greet = false;
      }
      return this.#run(task, signal);
    });
    this.#turn = result.catch(() => {});
    return orAborted(result, signal);
  }

  async #run(task: TaskOfTeam, signal?: AbortSignal): Promise<(EncodeResult | null)[]> {
    if (!this.#isOpen) throw disposedError();
    const state = new Int32Array(new SharedArrayBuffer(4 * TEAM_WORDS));
    const stop = () => stopTeam(state, "signal");
    signal?.addEventListener("abort", stop);
    const team = { state, members: this.members, spin: this.#spin };
    const runs = Array.from({ length: this.members }, async () => {
      try {
        return await this.#crew.run({ ...task, ...team });
      } catch (error) {
        stopTeam(state, "failure");
        this.#greet = true;
        throw error;
      }
    });
    const settled = await Promise.allSettled(runs);
    signal?.removeEventListener("abort", stop);
    if (!this.#isOpen) throw disposedError();
    return resultsOf(settled, signal);
  }

  async close(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#crew.close();
  }
}

/** Callers hear of their abort at once, even while they wait for their turn; the work behind it stops by itself. */
function orAborted<Result>(result: Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
  if (!signal) return result;
  return new Promise((resolve, reject) => {
    const abort = () => reject(abortedError(signal));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    const settle = () => signal.removeEventListener("abort", abort);
    result.then(resolve, reject).finally(settle);
  });
}

function disposedError(): IsqError {
  return new IsqError("backend/disposed", "the threads backend was disposed");
}

/** All results, or the error that tells most: a refusal, before a death, before those who only stopped with it. */
function resultsOf(
  settled: readonly PromiseSettledResult<WorkerAnswer>[],
  signal: AbortSignal | undefined,
): (EncodeResult | null)[] {
  const refusals = settled.flatMap((run) =>
    run.status === "fulfilled" && run.value.error ? [run.value.error] : [],
  );
  const refusal = refusals.find(({ tag }) => tag !== "backend/worker" && tag !== "aborted");
  if (refusal) throw new IsqError(refusal.tag, refusal.message, refusal.details);
  const dead = settled.find((run) => run.status === "rejected");
  if (dead) {
    const message = `a worker died: ${dead.reason instanceof Error ? dead.reason.message : dead.reason}`;
    throw new IsqError("backend/worker", message, {}, { cause: dead.reason });
  }
  if (refusals.some(({ tag }) => tag === "aborted")) throw abortedError(signal);
  if (refusals.length > 0) {
    const [{ tag, message, details }] = refusals;
    throw new IsqError(tag, message, details);
  }
  return settled.map((run) => (run.status === "fulfilled" && !run.value.error ? run.value.result : null));
}

function abortedError(signal: AbortSignal | undefined): IsqError {
  return new IsqError("aborted", "the work was aborted", { reason: String(signal?.reason) });
}
