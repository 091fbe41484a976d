/** The server as a function from requests to responses: guards, routes, errors, counts. */

import { Hono } from "hono";
import { ApiError, errorResponse, toApiError } from "./errors.js";
import { type GuardOptions, guard } from "./guard.js";
import { SERVER_LIMITS, type ServerLimits } from "./limits.js";
import type { RequestLog } from "./log.js";
import { createMetrics } from "./metrics.js";
import { openApi } from "./openapi.js";
import { chatRoutes } from "./routes/chat.js";
import { completionRoutes } from "./routes/completions.js";
import { isqRoutes } from "./routes/isq.js";
import { modelRoutes } from "./routes/models.js";
import { pageRoutes } from "./routes/page.js";
import type { AppEnv, ServerState } from "./state.js";

export interface AppOptions extends GuardOptions {
  readonly limits?: Partial<ServerLimits>;
  readonly log?: RequestLog;
  /** Cut prompts that are too long, from their beginning, instead of refusing them. */
  readonly truncate?: boolean;
  /** Seed of requests without one; a new one each time when absent. */
  readonly seed?: number;
}

/** What every answer says to browsers: nothing here is to be framed, sniffed or kept. */
const SECURITY_HEADERS = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
} as const;

export function createState(options: AppOptions, stopped: AbortSignal): ServerState {
  // Not AbortSignal.any: a signal that lives as long as the server would keep something of every request.
  const requests = new Set<AbortController>();
  stopped.addEventListener("abort", () => {
    for (const request of requests) request.abort(stopped.reason);
  });
  return {
    limits: { ...SERVER_LIMITS, ...options.limits },
    metrics: createMetrics(),
    log: options.log,
    truncate: options.truncate ?? false,
    seed: options.seed,
    stopped,
    requests,
    served: undefined,
    failure: undefined,
    draining: false,
  };
}

export function createApp(state: ServerState, options: GuardOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const document = openApi(state.limits);
  let count = 0;
  app.use(async (context, next) => {
    const started = performance.now();
    const id = `${process.pid}-${++count}`;
    context.set("requestId", id);
    state.log?.request(id, context.req.method, context.req.path);
    await next();
    const seconds = (performance.now() - started) / 1000;
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) context.res.headers.set(name, value);
    context.res.headers.set("x-request-id", id);
    state.metrics.answered(routeOf(context.req.path, app), context.res.status, seconds);
    state.log?.response(id, context.res.status, seconds);
  });
  app.use(guard(options));
  app.get("/openapi.json", (context) => context.json(document));
  app.get("/api-doc/openapi.json", (context) => context.json(document));
  for (const routes of [modelRoutes, chatRoutes, completionRoutes, isqRoutes, pageRoutes]) {
    app.route("/", routes(state));
  }
  app.notFound((context) => errorResponse(unknownRoute(app, context.req.method, context.req.path)));
  app.onError((error, context) => {
    state.log?.error(context.get("requestId"), error);
    return errorResponse(toApiError(error));
  });
  return app;
}

/** 405 with the methods that there are, or 404. */
function unknownRoute(app: Hono<AppEnv>, method: string, path: string): ApiError {
  const methods = app.routes
    .filter((route) => route.path === path && route.method !== "ALL")
    .map(({ method }) => method);
  if (methods.length === 0) return new ApiError(404, "unknown_url", `there is nothing at ${method} ${path}`);
  const allow = [...new Set(methods)].join(", ");
  return new ApiError(405, "method_not_allowed", `${path} takes ${allow}, not ${method}`, {
    headers: { allow },
  });
}

/** Paths that exist count by name; others together, or anybody could fill the memory with names. */
function routeOf(path: string, app: Hono<AppEnv>): string {
  return app.routes.some((route) => route.path === path) ? path : "other";
}
