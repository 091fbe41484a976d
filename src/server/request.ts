/** What the routes do with a request before they know what it wants. */

import type { Context } from "hono";
import type { z } from "zod";
import { readBody } from "./body.js";
import { truncatePrompt } from "./generation.js";
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
  const controller = new AbortController();
  return {
    body,
    signal: AbortSignal.any([context.req.raw.signal, state.stopped, controller.signal]),
    drop(reason) {
      controller.abort(reason);
      context.env.outgoing?.destroy(); // absent where there is no socket
    },
    requestId,
  };
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
