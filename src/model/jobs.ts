/** What jobs of a scheduler do with their logits: choose tokens of a text, or hand them all out. */

import { checkAborted, IsqError } from "../errors.js";
import { type ChosenLogprobs, logprobsOf } from "./logprobs.js";
import { pickLargest, type Sampler } from "./sampler.js";
import { PROMPT_ROWS, type Scheduler } from "./scheduler.js";
import type { Job } from "./step.js";

export interface RunOptions {
  readonly signal?: AbortSignal;
  /** Most rows per step when a prompt is run; the results do not depend on it. */
  readonly stepRows?: number;
}

export interface GenerateOptions extends RunOptions {
  /** Most tokens to add; the context may end it sooner. */
  readonly maxTokens: number;
  /** Tokens that end the text; they are not part of it. */
  readonly endTokens?: readonly number[];
  /** Chooses each token; the largest logit when absent. */
  readonly sampler?: Sampler;
  /** Report log probabilities: of each token, and of this many of the likeliest. */
  readonly logprobs?: number;
}

/** Why a text ended: at an end token or a stop string, or because it may not be longer. */
export type FinishReason = "stop" | "length";

export interface ChosenToken {
  readonly token: number;
  readonly logprobs?: ChosenLogprobs;
}

/** Gets [rows × vocabulary], valid during the call, and the index of their first token. A promise holds the text up. */
export type VisitLogits = (logits: Float32Array, first: number) => unknown;

/** Logits of all tokens, as they come. */
export async function runScoring(
  scheduler: Scheduler,
  tokens: number[],
  visit: VisitLogits,
  { signal, stepRows = PROMPT_ROWS }: RunOptions,
): Promise<void> {
  checkAborted(signal);
  const { vocabulary } = scheduler.program;
  await new Promise<void>((resolve, fail) => {
    const job: Job = {
      tokens,
      promptTokens: tokens.length,
      stepRows,
      wanted: 0,
      ready: true,
      accept(logits, first) {
        const visited = visit(logits, first);
        job.wanted = first + logits.length / vocabulary;
        const isLast = job.wanted === tokens.length;
        const goOn = () => {
          job.ready = true;
          if (isLast) stop();
          if (isLast) resolve();
          else scheduler.wake();
        };
        if (visited instanceof Promise) {
          job.ready = false;
          visited.then(goOn, (error) => {
            stop();
            fail(error);
          });
        } else if (isLast) goOn();
        return isLast;
      },
      fail,
    };
    const stop = start(scheduler, job, signal);
  });
}

/** The tokens that continue a text, and why it ended. At most one is computed ahead of who reads. */
export async function* runText(
  scheduler: Scheduler,
  prompt: readonly number[],
  options: GenerateOptions,
): AsyncGenerator<ChosenToken, FinishReason, undefined> {
  const { maxTokens, endTokens = [], sampler = pickLargest, logprobs, stepRows = PROMPT_ROWS } = options;
  const { contextLength } = scheduler.program;
  checkAborted(options.signal);
  if (maxTokens === 0) return "length";
  const tokens = [...prompt];
  const made: ChosenToken[] = [];
  let finish: FinishReason | undefined;
  let failure: { readonly error: unknown } | undefined;
  let notify = () => {};
  const job: Job = {
    tokens,
    promptTokens: tokens.length,
    stepRows,
    wanted: tokens.length - 1,
    ready: true,
    accept(logits) {
      const token = sampler(logits);
      if (endTokens.includes(token)) finish = "stop";
      else {
        made.push({
          token,
          ...(logprobs !== undefined && { logprobs: logprobsOf(logits, token, logprobs) }),
        });
        job.wanted = tokens.push(token) - 1;
        if (tokens.length === prompt.length + maxTokens || tokens.length > contextLength) finish = "length";
      }
      job.ready = false;
      notify();
      return finish !== undefined;
    },
    fail(error) {
      failure = { error };
      notify();
    },
  };
  const stop = start(scheduler, job, options.signal);
  try {
    for (;;) {
      if (failure) throw failure.error;
      const next = made.shift();
      if (next) {
        job.ready = true;
        scheduler.wake();
        yield next;
      } else if (finish) return finish;
      else await new Promise<void>((resolve) => (notify = resolve));
    }
  } finally {
    stop();
  }
}

/** Submits a job; a signal ends it with `aborted`, the result without a word. */
function start(scheduler: Scheduler, job: Job, signal: AbortSignal | undefined): () => void {
  const drop = scheduler.submit(job);
  const abort = () => {
    drop();
    job.fail(new IsqError("aborted", "the work was aborted", { reason: String(signal?.reason) }));
  };
  signal?.addEventListener("abort", abort);
  return () => {
    signal?.removeEventListener("abort", abort);
    drop();
  };
}
