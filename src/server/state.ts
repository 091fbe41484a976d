/** What the routes share. */

import type { HttpBindings } from "@hono/node-server";
import type { TextModel } from "../run.js";
import type { Encoder } from "./encoder.js";
import { ApiError } from "./errors.js";
import type { ServerLimits } from "./limits.js";
import type { RequestLog } from "./log.js";
import type { Metrics } from "./metrics.js";
import type { ReIsqJobs } from "./re-isq-jobs.js";

/** What the middleware leaves for the routes. */
export interface AppEnv {
  Bindings: Partial<HttpBindings>;
  Variables: { requestId: string };
}

/** A model that is served. */
export interface Served {
  readonly model: TextModel;
  /** As /v1/models names it. */
  readonly id: string;
  /** Unix seconds. */
  readonly createdSeconds: number;
  readonly encoder: Encoder;
  readonly jobs: ReIsqJobs;
}

export interface ServerState {
  readonly limits: ServerLimits;
  readonly metrics: Metrics;
  readonly log: RequestLog | undefined;
  /** Cut prompts that are too long, instead of refusing them. */
  readonly truncate: boolean;
  /** Seed of requests without one; a new one each time when absent. */
  readonly seed: number | undefined;
  /** Ends every request that still runs. */
  readonly stopped: AbortSignal;
  /** Of the requests that are being answered. */
  readonly requests: Set<AbortController>;
  served: Served | undefined;
  /** Why the model could not be loaded. */
  failure: unknown;
  draining: boolean;
}

/** The model, once it is loaded and as long as requests are taken. Throws 503. */
export function servedModel(state: ServerState): Served {
  const headers = { "retry-after": "5" };
  if (state.draining) throw new ApiError(503, "stopping", "the server is stopping", { headers });
  if (state.served) return state.served;
  if (state.failure === undefined) {
    throw new ApiError(503, "loading", "the model is being loaded; try again", { headers });
  }
  throw new ApiError(503, "load_failed", "the model could not be loaded; the server's log says why");
}
