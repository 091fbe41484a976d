/** Running the texts of one request: several prompts, several choices of each, all at the same time. */

import { setMaxListeners } from "node:events";
import type { GenerateRequest, Piece } from "../run.js";
import { ApiError } from "./errors.js";
import type { SamplingRequest } from "./schema.js";
import type { Served, ServerState } from "./state.js";

/** What a request asks of every text. */
export type TextOptions = Omit<GenerateRequest, "prompt" | "messages" | "tokens" | "signal">;

export interface Generation {
  readonly prompts: readonly (readonly number[])[];
  /** Texts of each prompt. */
  readonly choices: number;
  readonly options: TextOptions;
  readonly signal: AbortSignal;
}

/** A piece of the text `index`: choice `index mod choices` of prompt ⌊index / choices⌋. */
export interface ChoicePiece {
  readonly index: number;
  readonly piece: Piece;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly avg_tok_per_sec: number;
  readonly avg_prompt_tok_per_sec: number;
  readonly avg_compl_tok_per_sec: number;
  readonly total_time_sec: number;
  readonly total_prompt_time_sec: number;
  readonly total_completion_time_sec: number;
}

/** The seed of choice `choice`; without any, greedy texts do not care and others differ each time. */
function seedOf(seed: number, choice: number): number {
  return (seed + choice) % 2 ** 53;
}

/** Options of the library from those of a request. A negative seed counts from the end of the range. */
export function textOptions(request: SamplingRequest, state: ServerState, maxTokens: number): TextOptions {
  const given = <Key extends string, Value>(key: Key, value: Value | null | undefined) =>
    value === null || value === undefined ? {} : ({ [key]: value } as Record<Key, Value>);
  const seed = request.seed ?? state.seed ?? Math.floor(Math.random() * 2 ** 53);
  return {
    maxTokens,
    seed: seed < 0 ? 2 ** 53 + seed : seed,
    ...given("temperature", request.temperature),
    ...given("topK", request.top_k),
    // Nothing but the likeliest token: a share of 0 is none that can be reached.
    ...(typeof request.top_p === "number" && { topP: Math.max(request.top_p, Number.MIN_VALUE) }),
    ...given("minP", request.min_p),
    ...given("frequencyPenalty", request.frequency_penalty),
    ...given("presencePenalty", request.presence_penalty),
    ...given("repetitionPenalty", request.repetition_penalty),
    ...given("logitBias", request.logit_bias as Record<number, number> | null | undefined),
    ...given("stop", request.stop),
  };
}

/** Throws 429 when the texts would have to wait behind too many others. */
export function checkRoom({ limits }: ServerState, { model }: Served, texts: number): void {
  const { running, waiting, maxSequences } = model.load;
  const queued = Math.max(0, running + waiting + texts - maxSequences);
  if (queued <= limits.queued) return;
  const message = `${waiting} texts wait already; at most ${limits.queued} may`;
  throw new ApiError(429, "overloaded", message, { headers: { "retry-after": "1" } });
}

/**
 * Runs all texts of a request and hands out their pieces as they come; counts them. The texts wait for their places at once;
 * the signal ends them when nobody wants the pieces.
 */
export class TextRun {
  readonly #state: ServerState;
  readonly #generation: Generation;
  /** One text that fails ends the others: the request cannot be answered any more. */
  readonly #abort = new AbortController();
  readonly #pieces: AsyncGenerator<{ index: number; value: Piece }, void, undefined>;
  readonly #started = performance.now();
  #firstAt: number | undefined;
  #completionTokens = 0;

  /** Throws 429. */
  constructor(state: ServerState, served: Served, generation: Generation) {
    const { prompts, choices, options, signal } = generation;
    checkRoom(state, served, prompts.length * choices);
    this.#state = state;
    this.#generation = generation;
    const both = AbortSignal.any([signal, this.#abort.signal]);
    setMaxListeners(0, both); // every text listens
    this.#pieces = merge(
      prompts.flatMap((tokens) =>
        Array.from({ length: choices }, (_, choice) =>
          served.model.stream({ ...options, tokens, seed: seedOf(options.seed!, choice), signal: both }),
        ),
      ),
    );
    state.metrics.tokens("prompt", this.#promptTokens);
  }

  async *pieces(): AsyncGenerator<ChoicePiece, void, undefined> {
    const { signal } = this.#generation;
    try {
      for await (const { index, value } of this.#pieces) {
        this.#count(value);
        yield { index, piece: value };
      }
    } catch (error) {
      this.#state.metrics.finished(signal.aborted ? "aborted" : "error");
      throw error;
    } finally {
      this.#abort.abort();
    }
  }

  get usage(): Usage {
    const now = performance.now();
    const [prompt, completion] = [this.#promptTokens, this.#completionTokens];
    const promptSeconds = ((this.#firstAt ?? now) - this.#started) / 1000;
    const seconds = (now - this.#started) / 1000;
    const rate = (tokens: number, over: number) => (over > 0 ? tokens / over : 0);
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      avg_tok_per_sec: rate(prompt + completion, seconds),
      avg_prompt_tok_per_sec: rate(prompt, promptSeconds),
      avg_compl_tok_per_sec: rate(completion, seconds - promptSeconds),
      total_time_sec: seconds,
      total_prompt_time_sec: promptSeconds,
      total_completion_time_sec: seconds - promptSeconds,
    };
  }

  get #promptTokens(): number {
    return this.#generation.prompts.reduce((sum, { length }) => sum + length, 0);
  }

  #count({ token, finish }: Piece): void {
    const { metrics } = this.#state;
    if (finish) metrics.finished(finish);
    if (token < 0) return;
    this.#completionTokens++;
    metrics.tokens("completion", 1);
    if (this.#firstAt !== undefined) return;
    this.#firstAt = performance.now();
    metrics.firstToken((this.#firstAt - this.#started) / 1000);
  }
}

/** Values of several generators as they come; all of them are begun at once. */
function merge<Value>(
  generators: readonly AsyncGenerator<Value>[],
): AsyncGenerator<{ index: number; value: Value }, void, undefined> {
  const pending = new Map<number, Promise<{ index: number; result: IteratorResult<Value> }>>();
  const advance = (index: number) => {
    const next = generators[index].next().then((result) => ({ index, result }));
    next.catch(() => {}); // whoever waits for it hears of it; after an abort nobody does
    pending.set(index, next);
  };
  for (const index of generators.keys()) advance(index);
  return (async function* () {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      pending.delete(index);
      if (result.done) continue;
      advance(index);
      yield { index, value: result.value };
    }
  })();
}
