/** Conversations to prompts, by the model's own chat template. */

import { IsqError } from "../errors.js";
import { parseTemplate, renderTemplate } from "./template.js";
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
    parseTemplate(source);
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
    return renderTemplate(chatTemplate, {
      ...variables,
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
