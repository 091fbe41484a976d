/** The server (`isq/server`): an OpenAI-compatible interface to a TextModel, for Node, Deno and Bun. */

export type { AppOptions } from "./app.js";
export type { ErrorBody } from "./errors.js";
export type { GuardOptions } from "./guard.js";
export { SERVER_LIMITS, type ServerLimits } from "./limits.js";
export { type RunningServer, type ServeOptions, startServer } from "./listen.js";
export { openLog, type RequestLog } from "./log.js";
