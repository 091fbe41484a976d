/** Changing the weights of the served model: one job at a time, which goes on when nobody waits for it. */

import { isIsqError } from "../errors.js";
import type { PlanTotals } from "../plan.js";
import type { ReIsqFailure, ReIsqOptions, ReIsqReport } from "../re-isq.js";
import { ApiError, type ErrorBody, errorBody, toApiError } from "./errors.js";

/** What changed, without the rows that did not. */
export interface JobReport extends Pick<ReIsqReport, "from" | "reason" | "seconds" | "failures" | "tensors"> {
  readonly totals: PlanTotals;
}

export interface Job {
  readonly id: number;
  readonly kind: "re_isq" | "calibration";
  /** The type asked for, where one was. */
  readonly type: string | null;
  readonly status: "running" | "done" | "failed";
  readonly started: string;
  /** Of tensors and of layers; the tensor that was made last. */
  readonly progress: {
    readonly done: number;
    readonly total: number;
    readonly layers_done: number;
    readonly layers: number;
    readonly tensor: string | null;
  };
  readonly report: JobReport | null;
  readonly error: ErrorBody["error"] | null;
  /** Layers that kept their old weights. */
  readonly failures: readonly ReIsqFailure[];
}

export interface ReIsqJobs {
  /** The running job, or the last one; null before there is any. */
  readonly current: Job | null;
  /** Begins a job. Throws 409 while another runs. The promise resolves to the job when it is over, whatever became of it. */
  begin(
    kind: Job["kind"],
    type: string | null,
    run: Run,
  ): { readonly job: Job; readonly ended: Promise<Job> };
}

type Run = (options: ReIsqOptions) => Promise<ReIsqReport>;

export function createJobs(stopped: AbortSignal): ReIsqJobs {
  let current: Job | null = null;
  let count = 0;
  const update = (part: Partial<Job>): Job => {
    current = { ...current!, ...part };
    return current;
  };
  const perform = async (run: Run): Promise<Job> => {
    try {
      const report = await run({
        signal: stopped,
        onProgress: ({ done, total, layersDone, layers, row }) =>
          update({
            progress: { done, total, layers_done: layersDone, layers, tensor: row.tensor },
          }),
      });
      const { progress } = current!;
      const whole = { ...progress, done: progress.total, layers_done: progress.layers };
      return update({ status: "done", progress: whole, report: shorten(report) });
    } catch (error) {
      const failures = isIsqError(error, "reisq/failed") ? (error.details["failures"] as ReIsqFailure[]) : [];
      return update({ status: "failed", error: errorBody(toApiError(error)).error, failures });
    }
  };
  return {
    get current() {
      return current;
    },
    begin(kind, type, run) {
      if (current?.status === "running") {
        throw new ApiError(
          409,
          "job_running",
          `job ${current.id} changes the weights; wait until it is done`,
        );
      }
      current = {
        id: ++count,
        kind,
        type,
        status: "running",
        started: new Date().toISOString(),
        progress: { done: 0, total: 0, layers_done: 0, layers: 0, tensor: null },
        report: null,
        error: null,
        failures: [],
      };
      return { job: current, ended: perform(run) };
    },
  };
}

function shorten({ plan, from, reason, seconds, failures, tensors }: ReIsqReport): JobReport {
  return { from, reason, seconds, failures, tensors, totals: plan.totals };
}
