/** Running: a model opened, quantized, placed, and ready for text. */

import type { Backend } from "./backends/backend.js";
import {
  type CollectedImportance,
  type CollectOptions,
  collectFromText,
  encodeImatrix,
  type WritableImatrixFormat,
} from "./calibrate.js";
import { type Chunk, type ChunkOptions, chunkTokens } from "./chunks.js";
import { type DivergenceResult, measureDivergence } from "./divergence.js";
import { IsqError } from "./errors.js";
import type { OpenedModel } from "./load.js";
import { type MeasureOptions, measurePerplexity, type PerplexityResult } from "./measure.js";
import { type ChatMessage, renderChat } from "./model/chat.js";
import type { FinishReason, VisitLogits } from "./model/jobs.js";
import type { LanguageModel } from "./model/language-model.js";
import { type ChosenLogprobs, logprobsOf } from "./model/logprobs.js";
import { createSampler, type Sampler, type SamplerOptions } from "./model/sampler.js";
import type { Load } from "./model/scheduler.js";
import { createStopper } from "./model/stops.js";
import type { Tokenizer } from "./model/tokenizer.js";
import type { Plan, PlanRequest } from "./plan.js";
import type { QuantizeReport } from "./quantize.js";
import type { ReIsqOptions, ReIsqReport } from "./re-isq.js";
import { type CalibrationReport, type CalibrationStatus, ModelWeights } from "./weights.js";

/** A prompt as text, as a conversation for the chat template, or as token ids. */
export type Prompt =
  | { readonly prompt: string }
  | { readonly messages: readonly ChatMessage[] }
  | { readonly tokens: readonly number[] };

/** A prompt, how tokens are chosen, and when to stop. */
export type GenerateRequest = Prompt &
  SamplerOptions & {
    /** Most tokens to add; 256 when absent. */
    readonly maxTokens?: number;
    /** Go on after the model's end tokens, up to `maxTokens`: for measurements. */
    readonly ignoreEnd?: boolean;
    /** Strings that end the text; they are not part of it. */
    readonly stop?: string | readonly string[];
    /** Report log probabilities of the tokens, and of this many of the likeliest at each place. */
    readonly logprobs?: number;
    readonly signal?: AbortSignal;
  };

/**
 * One token and the text it completed; the text may be empty while a character or a possible stop string is unfinished.
 * The last piece has `finish`, no token (-1) and what was held back.
 */
export interface Piece {
  readonly token: number;
  readonly text: string;
  readonly logprobs?: ChosenLogprobs;
  readonly finish?: FinishReason;
}

/** A text that was generated to its end. */
export interface Generated {
  readonly text: string;
  readonly tokens: readonly number[];
  readonly finish: FinishReason;
  /** Of each token, when asked for. */
  readonly logprobs?: readonly ChosenLogprobs[];
}

const DEFAULT_MAX_TOKENS = 256;
/** Rows of logits that are looked at between two turns of the event loop: some 20 ms for the largest vocabularies. */
const SCORED_ROWS = 16;

/** @internal */
export interface TextModelParts {
  readonly opened: OpenedModel;
  readonly tokenizer: Tokenizer;
  readonly backend: Backend;
  readonly ownsBackend: boolean;
  readonly language: LanguageModel;
  readonly report: QuantizeReport;
  readonly request: PlanRequest;
}

/** A loaded model. Calls may overlap: they share steps. */
export class TextModel {
  readonly tokenizer: Tokenizer;
  /** Of the backend. */
  readonly backendName: string;
  /** Worker threads that the model runs on; 1 without any. */
  readonly workers: number;
  readonly contextLength: number;
  readonly vocabulary: number;
  readonly #parts: TextModelParts;
  readonly #weights: ModelWeights;

  /** @internal Use {@link TextModelBuilder}. */
  constructor(parts: TextModelParts) {
    this.#parts = parts;
    this.tokenizer = parts.tokenizer;
    this.backendName = parts.backend.name;
    this.workers = parts.backend.workers ?? 1;
    this.contextLength = parts.language.contextLength;
    this.vocabulary = parts.opened.program.vocabulary;
    this.#weights = new ModelWeights(parts);
  }

  /** The plan that is in force. */
  get plan(): Plan {
    return this.#weights.plan;
  }

  /** What the last quantization did. */
  get report(): QuantizeReport {
    return this.#weights.report;
  }

  /** How many texts run and wait, and how much of the cache is free. */
  get load(): Load {
    return this.#parts.language.load;
  }

  /** Logits after every token, binary32 [tokens × vocabulary]. Throws `prompt/*`, `aborted`. */
  logits(tokens: ArrayLike<number>, options: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    return this.#parts.language.logits(tokens, options);
  }

  /** The token ids of a prompt, as {@link stream} continues them. Throws `tokenizer/invalid`, `prompt/empty`. */
  promptTokens(prompt: Prompt): readonly number[] {
    if ("tokens" in prompt) return prompt.tokens;
    if ("prompt" in prompt) return this.tokenizer.encode(prompt.prompt, { addSpecialTokens: true });
    return this.tokenizer.encode(renderChat(this.tokenizer, prompt.messages), { addSpecialTokens: false });
  }

  /** Throws what {@link stream} would throw of a request before anything is run. */
  checkRequest(request: GenerateRequest): void {
    const prompt = this.promptTokens(request);
    this.#parts.language.checkText(prompt, request.maxTokens ?? DEFAULT_MAX_TOKENS);
    this.#createSampler(request, prompt);
    createStopper(request.stop ?? []);
    if (request.logprobs !== undefined) checkLogprobs(request.logprobs, this.vocabulary);
  }

  /**
   * Log probabilities of the tokens of a prompt after the first, each given those before it, and of the `count` likeliest
   * in its place.
   */
  async promptLogprobs(
    prompt: Prompt,
    count: number,
    options: { signal?: AbortSignal } = {},
  ): Promise<ChosenLogprobs[]> {
    const tokens = this.promptTokens(prompt);
    const { vocabulary } = this;
    const logprobs: ChosenLogprobs[] = [];
    const visit = (logits: Float32Array, first: number) => {
      for (let row = 0; row * vocabulary < logits.length; row++) {
        const next = tokens[first + row + 1];
        const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
        if (next !== undefined) logprobs.push(logprobsOf(own, next, count));
      }
    };
    await this.#parts.language.visitLogits(tokens, visit, { ...options, stepRows: SCORED_ROWS });
    return logprobs;
  }

  /**
   * As {@link logits}, handed out step by step: `visit` gets [rows × vocabulary], valid during the call, and the index of
   * their first token. The next step waits for the promise that it returns, if it does.
   */
  visitLogits(
    tokens: ArrayLike<number>,
    visit: VisitLogits,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    return this.#parts.language.visitLogits(tokens, visit, options);
  }

  /**
   * Generates piece by piece. Greedy unless a temperature is given; the same seed gives the same text, whatever runs
   * beside it. Texts that run at the same time share steps.
   */
  async *stream(request: GenerateRequest): AsyncGenerator<Piece, void, undefined> {
    const { maxTokens = DEFAULT_MAX_TOKENS, signal, stop = [], logprobs, ignoreEnd = false } = request;
    const { language, opened } = this.#parts;
    const stopper = createStopper(stop);
    const decoder = this.tokenizer.createDecoder();
    const prompt = this.promptTokens(request);
    const chosen = language.choose(prompt, {
      maxTokens,
      endTokens: ignoreEnd ? [] : opened.config.endTokens,
      sampler: this.#createSampler(request, prompt),
      ...(logprobs !== undefined && { logprobs: checkLogprobs(logprobs, this.vocabulary) }),
      ...(signal && { signal }),
    });
    try {
      for (;;) {
        const next = await chosen.next();
        if (next.done) {
          const text = stopper.push(decoder.flush());
          const finish = stopper.stopped ? "stop" : next.value;
          yield { token: -1, text: text + stopper.flush(), finish };
          return;
        }
        yield { ...next.value, text: stopper.push(decoder.push(next.value.token)) };
        if (!stopper.stopped) continue;
        yield { token: -1, text: "", finish: "stop" };
        return;
      }
    } finally {
      await chosen.return("stop");
    }
  }

  /** All of {@link stream}. */
  async generate(request: GenerateRequest): Promise<Generated> {
    const tokens: number[] = [];
    const logprobs: ChosenLogprobs[] = [];
    let text = "";
    let finish: FinishReason = "length";
    for await (const piece of this.stream(request)) {
      if (piece.token >= 0) tokens.push(piece.token);
      if (piece.logprobs) logprobs.push(piece.logprobs);
      text += piece.text;
      finish = piece.finish ?? finish;
    }
    return { text, tokens, finish, ...(request.logprobs !== undefined && { logprobs }) };
  }

  /** Perplexity of a text, cut into chunks with the BOS in front of each. Throws `prompt/*`, `option/invalid`, `aborted`. */
  async perplexity(text: string, options: ChunkOptions & MeasureOptions = {}): Promise<PerplexityResult> {
    return measurePerplexity(this, this.chunks(text, options), options);
  }

  /** How far this model's predictions are from those of another one that reads the same text. Throws as {@link perplexity}. */
  async divergenceFrom(
    reference: TextModel,
    text: string,
    options: ChunkOptions & MeasureOptions = {},
  ): Promise<DivergenceResult> {
    return measureDivergence(reference, this, this.chunks(text, options), options);
  }

  /** The chunks that {@link perplexity} measures. */
  chunks(text: string, options: ChunkOptions = {}): Chunk[] {
    const ids = this.tokenizer.encode(text, { addSpecialTokens: false });
    return chunkTokens(ids, this.tokenizer.beginToken, options);
  }

  /**
   * Quantizes again to another type; topology rules and importance stay in force. Values come from the source files while they
   * are as they were, else, or when asked for, from the weights as they run. All tensors of a layer are swapped together
   * between two steps, and running texts go on, with the keys and values that they have. Resolves when done, with what
   * changed. A layer that fails keeps its old weights, the others are swapped, and then `reisq/failed` is thrown with the
   * `failures` and the `report` among its details. Also throws `type/unknown`, `plan/*`, `source/changed`, `aborted`.
   */
  reIsq(type: string, options: ReIsqOptions = {}): Promise<ReIsqReport> {
    return this.#weights.reIsq(type, options);
  }

  /** The plan that {@link reIsq} to this type would follow if it read the source. Throws `type/unknown`, `plan/*`. */
  planReIsq(type: string): Plan {
    return this.#weights.planReIsq(type);
  }

  /**
   * Importance of the weights as they are, from a text that is cut into chunks with the BOS in front of each: 1024 tokens, or
   * what the context holds. Throws `option/unsupported`, `prompt/empty`, `aborted`.
   */
  collectImportance(text: string, options: CollectOptions = {}): Promise<CollectedImportance> {
    const { language } = this.#parts;
    return collectFromText(language, this.tokenizer, text, options);
  }

  /** A file of collected importance. Throws `tensor/missing` for a weight that has no name in GGUF. */
  encodeImatrix(collected: CollectedImportance, format: WritableImatrixFormat): Promise<Uint8Array> {
    return encodeImatrix(collected, this.#parts.opened.program, format);
  }

  /** Begins to collect importance from every text that runs. Throws `option/conflict` when it has begun already. */
  beginCalibration(): Promise<void> {
    return this.#weights.beginCalibration();
  }

  /** How much was collected so far. */
  get calibrationStatus(): CalibrationStatus {
    return this.#weights.calibrationStatus;
  }

  /**
   * Quantizes again, to the same types, with the importance that was collected since {@link beginCalibration}, and ends
   * collecting. As {@link reIsq}; also throws `calibration/none`.
   */
  applyCalibration(options: ReIsqOptions = {}): Promise<CalibrationReport> {
    return this.#weights.applyCalibration(options);
  }

  /** Ends collecting and changes nothing; what was collected, or null. */
  endCalibration(): Promise<CollectedImportance | null> {
    return this.#weights.endCalibration();
  }

  /** Frees the model's memory once the running step is done. A backend that was passed in stays usable. */
  async dispose(): Promise<void> {
    const { language, opened, backend, ownsBackend } = this.#parts;
    await language.dispose();
    await opened.checkpoint.close();
    if (ownsBackend) await backend.dispose();
  }

  #createSampler(request: GenerateRequest, prompt: readonly number[]): Sampler {
    for (const id of Object.keys(request.logitBias ?? {})) checkBias(Number(id), this.vocabulary);
    return createSampler(request, this.#parts.backend.logitKernels, prompt);
  }
}

function checkBias(id: number, vocabulary: number): void {
  if (!(id >= vocabulary)) return; // what is no id at all, the sampler refuses
  const message = `logitBias: token ${id} is outside the vocabulary of ${vocabulary}`;
  throw new IsqError("prompt/token", message, { field: "logitBias", value: id, limit: vocabulary - 1 });
}

function checkLogprobs(count: number, vocabulary: number): number {
  if (Number.isSafeInteger(count) && count >= 0 && count <= vocabulary) return count;
  const message = `logprobs must be an integer from 0 to ${vocabulary}, not ${count}`;
  throw new IsqError("option/invalid", message, { field: "logprobs", value: count, limit: vocabulary });
}
