/** A model that runs: sequences of tokens over one {@link Session}. Token ids in, logits or token ids out. */

import type { FileTensor, PlaceEncoding, Session, Tensor } from "../backends/backend.js";
import { checkToken } from "../backends/interpreter.js";
import type { Batch, Program, WeightIndex } from "../backends/program.js";
import { checkAborted, IsqError } from "../errors.js";
import { type BlockPool, createBlockPool, createSequence, lengthError, type SequenceCache } from "./cache.js";
import { createPause } from "./pause.js";
import { pickLargest, type Sampler } from "./sampler.js";

/** Token ids: any list of integers. */
export type Tokens = ArrayLike<number>;

export interface RunOptions {
  readonly signal?: AbortSignal;
  /** Rows per step when a prompt is run; the results do not depend on it. */
  readonly stepRows?: number;
}

export interface GenerateOptions extends RunOptions {
  /** Most tokens to add; the context may end it sooner. */
  readonly maxTokens: number;
  /** Tokens that end the text; they are not part of it. */
  readonly endTokens?: readonly number[];
  /** Chooses each token; the largest logit when absent. */
  readonly sampler?: Sampler;
}

export interface LanguageModelOptions {
  /** Cache positions of the session, shared by all sequences that run at the same time. */
  readonly cachePositions: number;
}

const STEP_ROWS = 256;

export class LanguageModel {
  readonly program: Program;
  readonly contextLength: number;
  readonly #session: Session;
  readonly #pool: BlockPool;
  readonly #pause = createPause();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(program: Program, session: Session, { cachePositions }: LanguageModelOptions) {
    this.program = program;
    this.contextLength = program.contextLength;
    this.#session = session;
    this.#pool = createBlockPool(cachePositions);
  }

  /** Does something with the session between two steps. */
  between<Result>(task: (session: Session) => Result | Promise<Result>): Promise<Result> {
    return this.#exclusively(() => task(this.#session));
  }

  /** Replaces a weight between two steps; texts that are being generated go on with the new one. */
  place(weight: WeightIndex, tensor: Tensor): Promise<void> {
    return this.#exclusively(() => this.#session.place(weight, tensor));
  }

  /** As the session's, where it has it. */
  canPlaceFile(weight: WeightIndex): boolean {
    return this.#session.canPlaceFile?.(weight) ?? false;
  }

  /** As {@link place}, of a weight that the session's workers read and quantize themselves. */
  placeFile(
    weight: WeightIndex,
    file: FileTensor,
    encoding: PlaceEncoding | null,
    signal?: AbortSignal,
  ): Promise<number> {
    return this.#exclusively(() => this.#session.placeFile!(weight, file, encoding, signal));
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

  /** As {@link logits}, handed out step by step: `visit` gets [rows × vocabulary] and the index of their first token. */
  async visitLogits(
    tokens: Tokens,
    visit: (logits: Float32Array, firstRow: number) => void,
    options: RunOptions = {},
  ): Promise<void> {
    this.#checkPrompt(tokens);
    const sequence = createSequence(this.#pool, this.contextLength);
    try {
      for await (const { logits, firstRow } of this.#feed(sequence, tokens, "all", options)) {
        visit(logits, firstRow);
      }
    } finally {
      sequence.release();
    }
  }

  /**
   * Continues a prompt, one token at a time, until `maxTokens`, an end token or the end of the context. The prompt is
   * checked at the first `next()`: `prompt/empty`, `prompt/token`, `prompt/length`; the signal between steps: `aborted`.
   */
  async *stream(prompt: Tokens, options: GenerateOptions): AsyncGenerator<number, void, undefined> {
    const { maxTokens, endTokens = [], sampler = pickLargest } = options;
    if (!Number.isSafeInteger(maxTokens) || maxTokens < 0) {
      throw new IsqError("option/invalid", `maxTokens must be a non-negative integer, not ${maxTokens}`, {
        field: "maxTokens",
        value: maxTokens,
        limit: this.contextLength,
      });
    }
    this.#checkPrompt(prompt);
    const sequence = createSequence(this.#pool, this.contextLength);
    try {
      let next: Tokens = prompt;
      for (let count = 0; count < maxTokens; count++) {
        let last: Float32Array | undefined;
        for await (const { logits } of this.#feed(sequence, next, "last", options)) last = logits;
        const token = sampler(last!);
        if (endTokens.includes(token)) return;
        yield token;
        if (sequence.length === this.contextLength) return;
        next = [token];
      }
    } finally {
      sequence.release();
    }
  }

  /** All tokens of {@link stream}. */
  async generate(prompt: Tokens, options: GenerateOptions): Promise<number[]> {
    const tokens: number[] = [];
    for await (const token of this.stream(prompt, options)) tokens.push(token);
    return tokens;
  }

  /** Frees the session once the running step is done. */
  dispose(): Promise<void> {
    return this.#exclusively(() => this.#session.dispose());
  }

  /** Runs tokens at the end of a sequence, step by step, and yields the logits that are wanted. */
  async *#feed(sequence: SequenceCache, tokens: Tokens, outputs: "all" | "last", options: RunOptions) {
    const { signal, stepRows = STEP_ROWS } = options;
    for (let first = 0; first < tokens.length; first += stepRows) {
      await this.#pause();
      checkAborted(signal);
      const rows = Math.min(stepRows, tokens.length - first);
      const position = sequence.length;
      sequence.extend(rows);
      const wanted = outputs === "all" ? rows : first + rows === tokens.length ? 1 : 0;
      const batch: Batch = {
        tokens: Int32Array.from({ length: rows }, (_, row) => tokens[first + row]),
        positions: Int32Array.from({ length: rows }, (_, row) => position + row),
        sequences: new Int32Array(rows),
        blockTables: [sequence.table],
        outputs: Int32Array.from({ length: wanted }, (_, i) => rows - wanted + i),
      };
      const logits = await this.#exclusively(() => this.#session.run(batch, signal));
      if (wanted > 0) yield { logits, firstRow: first };
    }
  }

  #checkPrompt(tokens: Tokens): void {
    if (tokens.length === 0)
      throw new IsqError("prompt/empty", "the prompt has no tokens", { field: "tokens" });
    if (tokens.length > this.contextLength) {
      throw lengthError(tokens.length, this.contextLength, this.contextLength);
    }
    for (let i = 0; i < tokens.length; i++) checkToken(tokens[i], this.program.vocabulary, i);
  }

  /** Sessions do one thing at a time; callers take turns. */
  #exclusively<Result>(task: () => Result | Promise<Result>): Promise<Result> {
    const result = this.#turn.then(task);
    this.#turn = result.catch(() => {});
    return result;
  }
}
