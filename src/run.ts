/** Running: a model opened, quantized, placed, and ready for text. */

import type { Backend } from "./backends/backend.js";
import type { OpenedModel } from "./load.js";
import { type ChunkOptions, chunkTokens, measurePerplexity, type PerplexityResult } from "./measure.js";
import { type ChatMessage, renderChat } from "./model/chat.js";
import type { LanguageModel } from "./model/language-model.js";
import { createSampler, type SamplerOptions } from "./model/sampler.js";
import type { Tokenizer } from "./model/tokenizer.js";
import { replaceModel } from "./place.js";
import { type Plan, type PlanRequest, plan } from "./plan.js";
import type { QuantizeModelOptions, QuantizeReport } from "./quantize.js";
import type { IsqType } from "./quants/table.js";
import { parseType } from "./quants/tensor.js";

/** A prompt as text, as a conversation for the chat template, or as token ids. */
export type Prompt =
  | { readonly prompt: string }
  | { readonly messages: readonly ChatMessage[] }
  | { readonly tokens: readonly number[] };

export type GenerateRequest = Prompt &
  SamplerOptions & {
    /** Most tokens to add; 256 when absent. */
    readonly maxTokens?: number;
    readonly signal?: AbortSignal;
  };

/** One token and the text it completed; the text may be empty while a character is unfinished. */
export interface Piece {
  readonly token: number;
  readonly text: string;
}

export interface Generated {
  readonly text: string;
  readonly tokens: readonly number[];
}

/** Options of loading and of re-ISQ. */
export type WorkOptions = Omit<QuantizeModelOptions, "importance">;

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

/** A loaded model. Calls may overlap: steps take turns. */
export class TextModel {
  readonly tokenizer: Tokenizer;
  /** Of the backend. */
  readonly backendName: string;
  /** Worker threads that the model runs on; 1 without any. */
  readonly workers: number;
  readonly contextLength: number;
  readonly vocabulary: number;
  readonly #parts: TextModelParts;
  #plan: Plan;
  #report: QuantizeReport;

  /** @internal Use {@link TextModelBuilder}. */
  constructor(parts: TextModelParts) {
    this.#parts = parts;
    this.tokenizer = parts.tokenizer;
    this.backendName = parts.backend.name;
    this.workers = parts.backend.workers ?? 1;
    this.contextLength = parts.language.contextLength;
    this.vocabulary = parts.opened.program.vocabulary;
    this.#plan = parts.report.plan;
    this.#report = parts.report;
  }

  /** The plan that is in force. */
  get plan(): Plan {
    return this.#plan;
  }

  /** What the last quantization did. */
  get report(): QuantizeReport {
    return this.#report;
  }

  /** Logits after every token, binary32 [tokens × vocabulary]. Throws `prompt/*`, `aborted`. */
  logits(tokens: ArrayLike<number>, options: { signal?: AbortSignal } = {}): Promise<Float32Array> {
    return this.#parts.language.logits(tokens, options);
  }

  /** Generates piece by piece. Greedy unless a temperature is given; the same seed gives the same text. */
  async *stream(request: GenerateRequest): AsyncGenerator<Piece, void, undefined> {
    const { maxTokens = 256, signal } = request;
    const { language, opened, backend } = this.#parts;
    const decoder = this.tokenizer.createDecoder();
    const tokens = language.stream(this.#promptTokens(request), {
      maxTokens,
      endTokens: opened.config.endTokens,
      sampler: createSampler(request, backend.logitKernels),
      ...(signal && { signal }),
    });
    for await (const token of tokens) yield { token, text: decoder.push(token) };
    const rest = decoder.flush();
    if (rest !== "") yield { token: -1, text: rest };
  }

  /** All of {@link stream}. */
  async generate(request: GenerateRequest): Promise<Generated> {
    const tokens: number[] = [];
    let text = "";
    for await (const piece of this.stream(request)) {
      if (piece.token >= 0) tokens.push(piece.token);
      text += piece.text;
    }
    return { text, tokens };
  }

  /** Perplexity of a text, cut into chunks with the BOS in front of each. Throws `prompt/empty`, `aborted`. */
  perplexity(text: string, options: ChunkOptions = {}): Promise<PerplexityResult> {
    return measurePerplexity(this, this.chunks(text, options), options);
  }

  /** The chunks that {@link perplexity} measures. */
  chunks(text: string, options: ChunkOptions = {}): number[][] {
    const ids = this.tokenizer.encode(text, { addSpecialTokens: false });
    return chunkTokens(ids, this.tokenizer.beginToken, options);
  }

  /**
   * Quantizes again, from the source files, to another type; topology rules stay in force. Tensors are swapped one by
   * one between steps, so running texts go on. Resolves when done, with the report of what changed.
   */
  async reIsq(type: string, options: WorkOptions = {}): Promise<QuantizeReport> {
    const { opened, backend, language, request } = this.#parts;
    const next = plan(opened.program, opened.sourceOf, { ...request, type: parseType(type) as IsqType });
    const work = workOptions(request, options);
    const report = await replaceModel(this.#plan, next, opened.checkpoint, backend, language, work);
    this.#plan = next;
    this.#report = report;
    return report;
  }

  /** Frees the model's memory once the running step is done. A backend that was passed in stays usable. */
  async dispose(): Promise<void> {
    const { language, opened, backend, ownsBackend } = this.#parts;
    await language.dispose();
    await opened.checkpoint.close();
    if (ownsBackend) await backend.dispose();
  }

  #promptTokens(prompt: Prompt): readonly number[] {
    if ("tokens" in prompt) return prompt.tokens;
    if ("prompt" in prompt) return this.tokenizer.encode(prompt.prompt, { addSpecialTokens: true });
    return this.tokenizer.encode(renderChat(this.tokenizer, prompt.messages), { addSpecialTokens: false });
  }
}

/** @internal */
export function workOptions({ importance }: PlanRequest, options: WorkOptions): QuantizeModelOptions {
  return { ...options, ...(importance && { importance }) };
}
