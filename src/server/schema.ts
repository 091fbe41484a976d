/** What requests may hold. Unknown fields are ignored, as clients send more every year; known ones are checked. */

import { z } from "zod";
import { TYPE_NAMES } from "../quants/table.js";
import type { ServerLimits } from "./limits.js";

const MOST_TOKENS = 100_000_000;

/** A known field that cannot be honoured, unless its value asks for nothing. */
const unsupported = (idle: (value: unknown) => boolean) =>
  z
    .unknown()
    .refine((value) => value === null || idle(value), { error: "is not supported here; leave it out" })
    .optional();
const isEmpty = (value: unknown) => Array.isArray(value) && value.length === 0;

const part = z.object({
  type: z.literal("text", { error: "parts must be of type text: this model takes nothing else" }),
  text: z.string(),
});

function messageSchema() {
  return z.looseObject({
    role: z.string().regex(/^[a-z_]{1,64}$/, "must be a role such as system, user or assistant"),
    content: z
      .union([z.string(), z.array(part).max(4096)])
      .nullish()
      .describe("Text, or a list of parts of type text."),
  });
}

/** Fields that both kinds of completions have. */
function samplingFields(limits: ServerLimits) {
  return {
    model: z.string().max(limits.nameLength).nullish().describe("Not looked at: there is one model."),
    max_tokens: z.int().min(1).max(MOST_TOKENS).nullish().describe("Most tokens to add."),
    temperature: z.number().min(0).max(2).nullish().describe("0, the default, takes the likeliest token."),
    top_p: z.number().min(0).max(1).nullish(),
    top_k: z.int().min(1).nullish().describe("Draw from this many likeliest tokens."),
    min_p: z.number().min(0).max(1).nullish().describe("Least share of the likeliest token's probability."),
    frequency_penalty: z.number().min(-2).max(2).nullish(),
    presence_penalty: z.number().min(-2).max(2).nullish(),
    repetition_penalty: z.number().gt(0).max(10).nullish(),
    logit_bias: z
      .record(z.string().regex(/^\d{1,9}$/, "keys must be token ids"), z.number().min(-100).max(100))
      .refine((bias) => Object.keys(bias).length <= limits.logitBias, {
        error: `must have at most ${limits.logitBias} entries`,
      })
      .nullish(),
    seed: z.int().nullish().describe("Same seed, same text, whatever else runs."),
    n: z.int().min(1).max(limits.choices).nullish(),
    stop: z.union([z.string(), z.array(z.string())]).nullish(),
    stream: z.boolean().nullish(),
    stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
    grammar: unsupported(() => false),
    adapters: unsupported(isEmpty),
    dry_multiplier: unsupported((value) => value === 0),
  };
}

export function chatSchema(limits: ServerLimits) {
  return z.object({
    ...samplingFields(limits),
    messages: z
      .union([z.string(), z.array(messageSchema()).min(1, "must not be empty").max(limits.messages)])
      .describe("The conversation, or the user's only message as a string."),
    max_completion_tokens: z.int().min(1).max(MOST_TOKENS).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(limits.topLogprobs).nullish(),
    chat_template_kwargs: z
      .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))
      .nullish()
      .describe("Further variables of the chat template."),
    tools: unsupported(isEmpty),
    tool_choice: unsupported((value) => value === "none" || value === "auto"),
    response_format: unsupported((value) => (value as { type?: unknown }).type === "text"),
  });
}

export function completionSchema(limits: ServerLimits) {
  const tokens = z.array(z.int().min(0)).min(1, "must not be empty");
  return z.object({
    ...samplingFields(limits),
    prompt: z
      .union([z.string(), tokens, z.array(z.union([z.string(), tokens])).min(1, "must not be empty")])
      .describe("Text, token ids, or a list of either."),
    logprobs: z.int().min(0).max(limits.topLogprobs).nullish(),
    echo: z.boolean().nullish().describe("Whether the answer begins with the prompt."),
    best_of: z.int().nullish().describe("Must equal n."),
    suffix: unsupported((value) => value === ""),
  });
}

export function tokenizeSchema() {
  return z.object({
    text: z.string().describe("What to tokenize."),
    add_special_tokens: z.boolean().nullish().describe("True when absent."),
  });
}

export function detokenizeSchema() {
  return z.object({
    tokens: z.array(z.int().min(0)),
    skip_special_tokens: z.boolean().nullish().describe("True when absent."),
  });
}

const type = z.string().describe(`One of ${TYPE_NAMES.join(", ")}, in any case.`);

export function reIsqSchema() {
  return z.object({
    ggml_type: type,
    from: z.enum(["source", "resident"]).nullish().describe("Where the values come from."),
    wait: z
      .boolean()
      .nullish()
      .describe("False: answer 202 at once, with the job to ask about. True, the default: answer when done."),
  });
}

export function planSchema() {
  return z.object({ isq: type });
}

export function perplexitySchema() {
  return z.object({
    text: z.string().describe("What to measure; only its first tokens are used."),
    chunk_tokens: z.int().min(2).nullish(),
  });
}

export function calibrationApplySchema() {
  return z.object({ wait: z.boolean().nullish() });
}

export type ChatRequest = z.output<ReturnType<typeof chatSchema>>;
export type CompletionRequest = z.output<ReturnType<typeof completionSchema>>;
export type SamplingRequest = Pick<ChatRequest, keyof ReturnType<typeof samplingFields> & keyof ChatRequest>;
