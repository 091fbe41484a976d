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

export interface Pool {
  readonly members: number;
  readonly isOpen: boolean;
  /**
   * Runs a task in every worker; resolves when all are done, with their results. Throws the error of the first that
   * failed, `aborted`, or `backend/worker` when a worker died; then the others have stopped too.
   */
  together(
    task: DistributiveOmit<WorkerTask, keyof TeamTask>,
    signal?: AbortSignal,
  ): Promise<(EncodeResult | null)[]>;
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
  const spin = workers <= availableParallelism();
  let open = true;
  const together: Pool["together"] = async (task, signal) => {
    if (signal?.aborted) throw abortedError(signal);
    const state = new Int32Array(new SharedArrayBuffer(4 * TEAM_WORDS));
    const stop = () => stopTeam(state, "signal");
    signal?.addEventListener("abort", stop);
    const runs = Array.from({ length: workers }, async () => {
      try {
        return (await piscina.run({ ...task, state, members: workers, spin })) as WorkerAnswer;
      } catch (error) {
        stopTeam(state, "failure");
        throw error;
      }
    });
    const settled = await Promise.allSettled(runs);
    signal?.removeEventListener("abort", stop);
    return resultsOf(settled, signal);
  };
  const pool: Pool = {
    members: workers,
    get isOpen() {
      return open;
    },
    together,
    async close() {
      if (!open) return;
      open = false;
      await piscina.destroy();
    },
  };
  try {
    await together({ kind: "hello" });
  } catch (error) {
    await pool.close();
    throw error;
  }
  return pool;
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
