/** What the routes do with a request before they know what it wants. */

import { setMaxListeners } from "node:events";
import type { Context } from "hono";
import type { z } from "zod";
import { truncatePrompt } from "../truncate.js";
import { readBody } from "./body.js";
import type { AppEnv, Served, ServerState } from "./state.js";

export interface OpenedRequest<Body> {
  readonly body: Body;
  /** Fires when the client goes away, when the server stops, and by {@link OpenedRequest.drop}. */
  readonly signal: AbortSignal;
  /** Ends the request and its connection. */
  readonly drop: (reason: string) => void;
  readonly requestId: string;
}

/** Tokens that a prompt that is cut leaves for the answer when the request names no number. */
const TRUNCATED_ROOM = 10;

/** Reads and checks the body. */
export async function openRequest<Schema extends z.ZodType>(
  context: Context<AppEnv>,
  state: ServerState,
  schema: Schema,
): Promise<OpenedRequest<z.output<Schema>>> {
  const requestId = context.get("requestId");
  const body = await readBody(context.req.raw, schema, state.limits);
  state.log?.body(requestId, "asked", body);
  const controller = openController(context, state);
  return {
    body,
    signal: controller.signal,
    drop(reason) {
      controller.abort(reason);
      context.env.outgoing?.destroy(); // absent where there is no socket
    },
    requestId,
  };
}

/** Fires with the client's signal and the server's, and is forgotten when the answer is out. */
function openController(context: Context<AppEnv>, { requests, stopped }: ServerState): AbortController {
  const controller = new AbortController();
  const { signal } = context.req.raw;
  if (stopped.aborted) controller.abort(stopped.reason);
  if (signal.aborted) controller.abort(signal.reason);
  signal.addEventListener("abort", () => controller.abort(signal.reason));
  requests.add(controller);
  setMaxListeners(0, controller.signal); // every text of the request listens
  context.env.outgoing?.once("close", () => requests.delete(controller));
  return controller;
}

/** The prompt, cut where the server does that. */
export function fitPrompt(
  { truncate }: ServerState,
  { model }: Served,
  tokens: readonly number[],
  maxTokens: number | null | undefined,
): readonly number[] {
  if (!truncate) return tokens;
  const room = maxTokens ?? TRUNCATED_ROOM;
  return truncatePrompt(tokens, model.contextLength, room, model.tokenizer.beginToken);
}
