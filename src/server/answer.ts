/** Answers of the completion routes: one JSON value, or a stream of chunks. */

import type { FinishReason } from "../model/jobs.js";
import type { ChosenLogprobs } from "../model/logprobs.js";
import type { Piece } from "../run.js";
import { fingerprintOf } from "./fingerprint.js";
import type { TextRun } from "./generation.js";
import { eventStream } from "./sse.js";
import type { Served, ServerState } from "./state.js";

/** A text that is complete. */
export interface Choice {
  readonly text: string;
  readonly logprobs: readonly ChosenLogprobs[];
  readonly finish: FinishReason;
}

/** How a kind of completion looks. */
export interface Format {
  readonly idPrefix: string;
  readonly object: string;
  readonly chunkObject: string;
  choice(index: number, choice: Choice): object;
  /** What comes before the first piece of a text, where something does. */
  opening(index: number): object | null;
  /** Null for a piece that has nothing to show. */
  chunk(index: number, piece: Piece): object | null;
}

export interface AnswerOptions {
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Of the request. */
  readonly requestId: string;
  readonly drop: (reason: string) => void;
}

export async function answer(
  state: ServerState,
  served: Served,
  run: TextRun,
  format: Format,
  options: AnswerOptions,
): Promise<Response> {
  const head = {
    id: `${format.idPrefix}-${crypto.randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: served.id,
    system_fingerprint: fingerprintOf(served.model.plan),
  };
  if (options.stream) return streamAnswer(state, run, format, options, head);
  const choices = await collect(run);
  const body = {
    ...head,
    object: format.object,
    choices: choices.map((choice, index) => format.choice(index, choice)),
    usage: run.usage,
  };
  state.log?.body(options.requestId, "answered", body);
  return Response.json(body);
}

async function collect(run: TextRun): Promise<Choice[]> {
  const choices: { text: string; logprobs: ChosenLogprobs[]; finish: FinishReason }[] = [];
  for await (const { index, piece } of run.pieces()) {
    choices[index] ??= { text: "", logprobs: [], finish: "length" };
    const choice = choices[index];
    choice.text += piece.text;
    if (piece.logprobs) choice.logprobs.push(piece.logprobs);
    choice.finish = piece.finish ?? choice.finish;
  }
  return choices;
}

function streamAnswer(
  state: ServerState,
  run: TextRun,
  format: Format,
  { includeUsage, drop, requestId }: AnswerOptions,
  head: object,
): Response {
  const frame = (choices: object[], usage?: object | null) => ({
    ...head,
    object: format.chunkObject,
    choices,
    ...(usage !== undefined && { usage }),
  });
  async function* events() {
    const open = new Set<number>();
    const usage = includeUsage ? null : undefined;
    for await (const { index, piece } of run.pieces()) {
      const opening = open.has(index) ? null : format.opening(index);
      open.add(index);
      if (opening) yield frame([opening], usage);
      const chunk = format.chunk(index, piece);
      if (chunk) yield frame([chunk], usage);
    }
    state.log?.body(requestId, "answered", { usage: run.usage });
    if (includeUsage) yield frame([], run.usage);
  }
  const stream = eventStream(events(), state.limits, drop, (error) => state.log?.error(requestId, error));
  return new Response(stream, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
    },
  });
}

/** JSON has no infinity: what cannot come gets the figure that clients of the OpenAI interface know. */
export function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : -9999;
}
