/** Conversations to prompts, by the model's own chat template through @huggingface/jinja. */

import { Template } from "@huggingface/jinja";
import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import type { Tokenizer } from "./tokenizer.js";

/** One message of a conversation. Templates may know further fields. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly [extra: string]: unknown;
}

export interface ChatOptions {
  /** Whether the template opens the assistant's turn; true when absent. */
  readonly addGenerationPrompt?: boolean;
  /** Further variables of the template, for example `tools`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** What rendering needs of a tokenizer. */
export type ChatTokenizer = Pick<Tokenizer, "file" | "chatTemplate" | "beginText" | "endText">;

/** Returns a Jinja source as it is. Throws `tokenizer/invalid` unless it can be parsed. */
export function checkTemplate(source: string, file: string): string {
  try {
    new Template(source);
    return source;
  } catch (cause) {
    const message = `the chat template ${file} is not Jinja: ${(cause as Error).message}`;
    throw new IsqError("tokenizer/invalid", message, { file, field: "chat_template" }, { cause });
  }
}

/**
 * Renders a conversation. The text holds its special tokens: encode it with `addSpecialTokens: false`. Throws
 * `prompt/empty` without messages and `tokenizer/invalid` when there is no template or it fails on these messages.
 */
export function renderChat(
  { file, chatTemplate, beginText, endText }: ChatTokenizer,
  messages: readonly ChatMessage[],
  { addGenerationPrompt = true, variables = {} }: ChatOptions = {},
): string {
  if (messages.length === 0) {
    throw new IsqError("prompt/empty", "the conversation has no messages", { field: "messages" });
  }
  if (chatTemplate === null) {
    throw new IsqError(
      "tokenizer/invalid",
      `the tokenizer ${file} has no chat template; pass a prompt instead`,
      {
        file,
        field: "chat_template",
      },
    );
  }
  try {
    return boundTemplate(chatTemplate).render({
      ...variables,
      ...createBounds(),
      messages,
      bos_token: beginText,
      eos_token: endText,
      add_generation_prompt: addGenerationPrompt,
    });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new IsqError(
      "tokenizer/invalid",
      `the chat template of ${file} failed: ${reason}`,
      { file, field: "chat_template" },
      { cause },
    );
  }
}

/** Called at the start of every turn of a loop and of every macro; see {@link boundTemplate}. */
const TICK = "isq_tick";

/** A template whose loops and macros say that they run. Templates come from files of strangers, and may loop for ever. */
function boundTemplate(source: string): Template {
  const template = new Template(source);
  const [call] = (new Template(`{{ ${TICK}() }}`).parsed as unknown as Node).body as Node[];
  const visit = (node: unknown): void => {
    if (Array.isArray(node)) node.forEach(visit);
    if (node === null || typeof node !== "object" || Array.isArray(node)) return;
    const { type, body, computed } = node as Node;
    for (const [name, value] of Object.entries(node)) {
      if (name !== "property" || computed) visit(value); // `x.range` is another thing
    }
    if (type === "Identifier" && (node as Node).value === "range") (node as Node).value = RANGE;
    if ((type === "For" || type === "Macro") && Array.isArray(body)) body.unshift(call);
  };
  visit(template.parsed);
  return template;
}

/** The library's own `range` cannot be replaced: templates call this one. */
const RANGE = "isq_range";

interface Node {
  readonly type: string;
  readonly computed?: boolean;
  value?: unknown;
  readonly body?: unknown;
}

/** What a template may do: as many turns and items of `range` as the longest conversations never need. */
function createBounds() {
  let left: number = LIMITS.templateSteps;
  const spend = (steps: number) => {
    left -= steps;
    if (!(left >= 0)) throw new Error(`it takes more than ${LIMITS.templateSteps} steps`);
  };
  return {
    [TICK]() {
      spend(1);
      return "";
    },
    [RANGE](start: number, stop?: number, step = 1): number[] {
      const [first, last] = typeof stop === "number" ? [start, stop] : [0, start];
      const by = typeof step === "number" && step !== 0 ? step : 1;
      const count = Math.max(0, Math.ceil((last - first) / by));
      spend(count);
      return Array.from({ length: count }, (_, i) => first + i * by);
    },
  };
}
