/** What was asked and answered, as lines of JSON. */

import { type DestinationStream, destination, pino } from "pino";
import { toApiError } from "./errors.js";

/** Where the server tells what it is asked and answers; every request has an id. */
export interface RequestLog {
  /** A request has arrived. */
  request(id: string, method: string, path: string): void;
  /** What was asked or answered. */
  body(id: string, kind: "asked" | "answered", body: unknown): void;
  /** A request was answered; `seconds` until its headers were sent. */
  response(id: string, status: number, seconds: number): void;
  /** With the stack where it is no refusal. */
  error(id: string, error: unknown): void;
  /** Writes what is buffered. */
  flush(): void;
}

/**
 * Appends to a file, which is made when it is not there. Prompts and answers are in it; API keys are not.
 * @param to A path, or a stream of lines.
 */
export function openLog(to: string | DestinationStream): RequestLog {
  const stream = typeof to === "string" ? destination({ dest: to, append: true, sync: true }) : to;
  const logger = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, stream);
  return {
    request: (id, method, path) => logger.info({ id, method, path }, "request"),
    body: (id, kind, body) => logger.info({ id, body }, kind),
    response: (id, status, seconds) => logger.info({ id, status, seconds }, "response"),
    error(id, error) {
      const { status, code, message } = toApiError(error);
      if (status < 500) logger.warn({ id, status, code }, message);
      else logger.error({ id, status, code, err: error }, message);
    },
    flush: () => logger.flush(),
  };
}
