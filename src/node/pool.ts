/** One Piscina pool. A call is a team: one task for every worker, all at the same time. */

import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import { stopTeam, TEAM_WORDS } from "../backends/team.js";
import type { TeamTask, WorkerAnswer, WorkerTask } from "../backends/threads-protocol.js";
import type { EncodeResult } from "../backends/wasm-encode.js";
import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

type TaskOfTeam = DistributiveOmit<WorkerTask, keyof TeamTask>;

export interface Pool {
  readonly members: number;
  readonly isOpen: boolean;
  /**
   * Runs a task in every worker; resolves when all are done, with their results. Throws the error of the first that
   * failed, `aborted`, or `backend/worker` when a worker died; then the others have stopped too.
   */
  together(task: TaskOfTeam, signal?: AbortSignal): Promise<(EncodeResult | null)[]>;
  /** Ends the workers. */
  close(): Promise<void>;
}

/** Workers run JavaScript: where this module itself is TypeScript (in tests), they take the built file. */
const WORKER = new URL(
  import.meta.url.endsWith(".ts") ? "../../dist/node/worker.js" : "worker.js",
  import.meta.url,
);

/** Starts the workers and waits until they are ready. Throws `option/invalid`. */
export async function openPool(workers: number = availableParallelism()): Promise<Pool> {
  if (!Number.isSafeInteger(workers) || workers < 1 || workers > LIMITS.workers) {
    throw new IsqError("option/invalid", `workers must be from 1 to ${LIMITS.workers}, not ${workers}`, {
      field: "workers",
      value: workers,
      limit: LIMITS.workers,
    });
  }
  const piscina = new Piscina({
    filename: fileURLToPath(WORKER),
    minThreads: workers,
    maxThreads: workers,
    execArgv: [],
  });
  const pool = new TeamPool(piscina, workers);
  try {
    await pool.together({ kind: "hello" });
  } catch (error) {
    await pool.close();
    throw error;
  }
  return pool;
}

class TeamPool implements Pool {
  readonly members: number;
  readonly #piscina: Piscina;
  readonly #spin: boolean;
  #isOpen = true;
  /** Teams take turns: a worker that is done early must not take a second place in the next team. */
  #turn: Promise<unknown> = Promise.resolve();
  /** After a death its successor must have started before a team is dealt out. */
  #greet = false;

  constructor(piscina: Piscina, members: number) {
    this.#piscina = piscina;
    this.members = members;
    this.#spin = members <= availableParallelism();
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
        return (await this.#piscina.run({ ...task, ...team })) as WorkerAnswer;
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
    await this.#piscina.destroy();
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
