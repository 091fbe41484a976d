/** A model that runs: sequences of tokens over one {@link Session}. Token ids in, logits or token ids out. */

import type { Session } from "../backends/backend.js";
import { checkToken } from "../backends/interpreter.js";
import type { Program, WeightIndex } from "../backends/program.js";
import { IsqError } from "../errors.js";
import { lengthError } from "./cache.js";
import {
  type ChosenToken,
  type FinishReason,
  type GenerateOptions,
  type RunOptions,
  runScoring,
  runText,
  type VisitLogits,
} from "./jobs.js";
import { type Load, Scheduler, type SchedulerOptions } from "./scheduler.js";

/** Token ids: any list of integers. */
export type Tokens = ArrayLike<number>;

/** Calls may overlap: they share steps, see scheduler.ts. */
export class LanguageModel {
  readonly program: Program;
  readonly contextLength: number;
  /** Most tokens of one text: the context, or less when the cache has less room. */
  readonly longestText: number;
  readonly #session: Session;
  readonly #scheduler: Scheduler;

  constructor(program: Program, session: Session, options: SchedulerOptions) {
    this.program = program;
    this.contextLength = program.contextLength;
    this.#session = session;
    this.#scheduler = new Scheduler(program, session, options);
    this.longestText = Math.min(program.contextLength, this.#scheduler.longestPrompt);
  }

  /** How busy it is. */
  get load(): Load {
    return this.#scheduler.load;
  }

  /**
   * Does something with the session between two steps. What the cache keeps of finished texts is forgotten: weights may
   * be others afterwards.
   */
  between<Result>(task: (session: Session) => Result | Promise<Result>): Promise<Result> {
    return this.#scheduler.exclusively((session) => {
      this.#scheduler.pool.forget();
      return task(session);
    });
  }

  /** As the session's, where it has it. */
  canPlaceFile(weight: WeightIndex): boolean {
    return this.#session.canPlaceFile?.(weight) ?? false;
  }

  /**
   * Logits after every token, [tokens × vocabulary], binary32. Throws `prompt/empty`, `prompt/token`, `prompt/length`,
   * `aborted`.
   */
  async logits(tokens: Tokens, options: RunOptions = {}): Promise<Float32Array> {
    const all = new Float32Array(tokens.length * this.program.vocabulary);
    await this.visitLogits(
      tokens,
      (logits, firstRow) => all.set(logits, firstRow * this.program.vocabulary),
      options,
    );
    return all;
  }

  /**
   * As {@link logits}, handed out step by step: `visit` gets [rows × vocabulary], valid during the call, and the index of
   * their first token. The next step waits for the promise that it returns, if it does.
   */
  async visitLogits(tokens: Tokens, visit: VisitLogits, options: RunOptions = {}): Promise<void> {
    this.#checkPrompt(tokens);
    await runScoring(this.#scheduler, Array.from(tokens), visit, options);
  }

  /**
   * Continues a prompt, one token at a time, until `maxTokens`, an end token or the end of the context; returns which. The
   * prompt is checked at the first `next()`: `prompt/empty`, `prompt/token`, `prompt/length`. Later come `aborted` and
   * `cache/full`.
   */
  async *choose(
    prompt: Tokens,
    options: GenerateOptions,
  ): AsyncGenerator<ChosenToken, FinishReason, undefined> {
    this.checkText(prompt, options.maxTokens);
    return yield* runText(this.#scheduler, Array.from(prompt), options);
  }

  /** Throws what {@link choose} throws at first: `prompt/empty`, `prompt/token`, `prompt/length`, `option/invalid`. */
  checkText(prompt: Tokens, maxTokens: number): void {
    checkMaxTokens(maxTokens, this.contextLength);
    this.#checkPrompt(prompt);
  }

  /** The tokens of {@link choose}. */
  async *stream(prompt: Tokens, options: GenerateOptions): AsyncGenerator<number, void, undefined> {
    for await (const { token } of this.choose(prompt, options)) yield token;
  }

  /** All tokens of {@link choose}. */
  async generate(prompt: Tokens, options: GenerateOptions): Promise<number[]> {
    const tokens: number[] = [];
    for await (const { token } of this.choose(prompt, options)) tokens.push(token);
    return tokens;
  }

  /** Ends what runs, with `backend/disposed`, and frees the session. */
  dispose(): Promise<void> {
    this.#scheduler.stop(new IsqError("backend/disposed", "the model was disposed"));
    return this.#scheduler.exclusively(() => this.#session.dispose());
  }

  #checkPrompt(tokens: Tokens): void {
    if (tokens.length === 0)
      throw new IsqError("prompt/empty", "the prompt has no tokens", { field: "tokens" });
    const room = Math.min(this.contextLength, this.#scheduler.longestPrompt);
    if (tokens.length > room) throw lengthError(tokens.length, this.contextLength, room);
    for (let i = 0; i < tokens.length; i++) checkToken(tokens[i], this.program.vocabulary, i);
  }
}

function checkMaxTokens(maxTokens: number, contextLength: number): void {
  if (Number.isSafeInteger(maxTokens) && maxTokens >= 0) return;
  throw new IsqError("option/invalid", `maxTokens must be a non-negative integer, not ${maxTokens}`, {
    field: "maxTokens",
    value: maxTokens,
    limit: contextLength,
  });
}
