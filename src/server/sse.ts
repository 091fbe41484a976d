/** Server-sent events from a generator, as fast as the client reads them. */

import { errorBody, toApiError } from "./errors.js";
import type { ServerLimits } from "./limits.js";

/**
 * A stream of events: each value as JSON, then `[DONE]`. An error becomes an event, and no `[DONE]` follows. `drop` ends
 * request and connection; it is called when the client goes away or does not read for {@link ServerLimits.stallMs}.
 */
export function eventStream(
  values: AsyncGenerator<unknown, void, undefined>,
  limits: ServerLimits,
  drop: (reason: string) => void,
  onError: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let stall: NodeJS.Timeout | undefined;
  let pending: Promise<IteratorResult<unknown, void>> | undefined;
  const send = (controller: ReadableStreamDefaultController<Uint8Array>, text: string) => {
    controller.enqueue(encoder.encode(text));
    stall = setTimeout(() => drop("the client does not read"), limits.stallMs);
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        clearTimeout(stall);
        pending ??= values.next();
        try {
          const next = await orQuiet(pending, limits.keepAliveMs);
          if (next === "quiet") return send(controller, ": keep-alive\n\n");
          pending = undefined;
          if (!next.done) return send(controller, `data: ${JSON.stringify(next.value)}\n\n`);
          controller.enqueue(encoder.encode("data: [DONE]\n\n"));
        } catch (error) {
          onError(error);
          controller.enqueue(encoder.encode(`data: ${JSON.stringify(errorBody(toApiError(error)))}\n\n`));
        }
        controller.close();
      },
      cancel(reason) {
        clearTimeout(stall);
        drop(String(reason));
        pending?.catch(() => {}); // it ends with `aborted`, and nobody is there to hear it
        void values.return();
      },
    },
    { highWaterMark: 0 },
  );
}

/** The value, or "quiet" when it takes longer than this. */
async function orQuiet<Value>(value: Promise<Value>, milliseconds: number): Promise<Value | "quiet"> {
  let timer: NodeJS.Timeout | undefined;
  const quiet = new Promise<"quiet">((resolve) => {
    timer = setTimeout(resolve, milliseconds, "quiet");
  });
  try {
    return await Promise.race([value, quiet]);
  } finally {
    clearTimeout(timer);
  }
}
