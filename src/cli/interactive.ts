/** Conversations in the terminal: `isq run` without a prompt, and `isq serve -i`. */

import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { isIsqError } from "../errors.js";
import type { ChatMessage } from "../model/chat.js";
import type { SamplerOptions } from "../model/sampler.js";
import type { TextModel } from "../run.js";
import { truncatePrompt } from "../truncate.js";

export interface InteractiveOptions {
  readonly sampling: SamplerOptions;
  readonly maxTokens: number;
  /** Cut conversations that are too long, from their beginning. */
  readonly truncate: boolean;
  /** Tell the speed after each answer. */
  readonly throughput: boolean;
}

/** What mistral.rs samples with here. */
export const INTERACTIVE_SAMPLING: SamplerOptions = {
  temperature: 0.1,
  topK: 32,
  topP: 0.1,
  minP: 0.05,
  frequencyPenalty: 0.1,
  presencePenalty: 0.1,
};
export const INTERACTIVE_TOKENS = 4096;

const HELP = `\\help            this list
\\system MESSAGE  add a system message to the conversation
\\exit            end; so does the end of the input
Anything else is said to the model. Ctrl-C stops its answer, or ends when there is none.
`;

/** Talks until the input ends. Bad input and prompts that are too long are told, and the conversation goes on. */
export async function converse(
  model: TextModel,
  options: InteractiveOptions,
  input: Readable = process.stdin,
  output: Writable = process.stdout,
): Promise<void> {
  const terminal = "isTTY" in input && input.isTTY === true;
  const lines = createInterface({ input, output, terminal, prompt: "> " });
  const messages: ChatMessage[] = [];
  let answering: AbortController | undefined;
  const interrupt = () => (answering ? answering.abort("interrupted") : lines.close());
  lines.on("SIGINT", interrupt);
  process.on("SIGINT", interrupt);
  try {
    lines.prompt();
    for await (const line of lines) {
      const text = line.trim();
      if (text === "\\exit") break;
      if (text.startsWith("\\")) output.write(runCommand(text, messages));
      else if (text !== "") {
        answering = new AbortController();
        await answer(model, options, { messages, text, output, signal: answering.signal });
        answering = undefined;
      }
      lines.prompt();
    }
  } finally {
    process.off("SIGINT", interrupt);
    lines.close();
  }
}

function runCommand(text: string, messages: ChatMessage[]): string {
  const [, name, rest = ""] = /^\\(\w*)\s*(.*)$/s.exec(text) ?? [];
  if (name === "help") return HELP;
  if (name !== "system") return `There is no \\${name}; the commands are \\help, \\system and \\exit.\n`;
  if (rest === "") return "\\system needs a message.\n";
  messages.push({ role: "system", content: rest });
  return "";
}

interface Turn {
  readonly messages: ChatMessage[];
  readonly text: string;
  readonly output: Writable;
  readonly signal: AbortSignal;
}

async function answer(model: TextModel, options: InteractiveOptions, turn: Turn): Promise<void> {
  const { messages, text, output, signal } = turn;
  messages.push({ role: "user", content: text });
  const started = performance.now();
  let [said, count] = ["", 0];
  try {
    const all = model.promptTokens({ messages });
    const { contextLength, tokenizer } = model;
    const tokens = options.truncate
      ? truncatePrompt(all, contextLength, Math.min(options.maxTokens, 256), tokenizer.beginToken)
      : all;
    const maxTokens = Math.min(options.maxTokens, contextLength);
    for await (const piece of model.stream({ ...options.sampling, tokens, maxTokens, signal })) {
      output.write(piece.text);
      said += piece.text;
      if (piece.token >= 0) count++;
      if (piece.finish === "length") output.write("...");
    }
  } catch (error) {
    if (!isIsqError(error)) throw error;
    if (error.tag !== "aborted") {
      output.write(`${error.message}\n`);
      messages.pop(); // it was never answered
      return;
    }
  }
  messages.push({ role: "assistant", content: said });
  const seconds = (performance.now() - started) / 1000;
  output.write("\n");
  if (options.throughput) output.write(`${count} tokens, ${(count / seconds).toFixed(1)} per second\n`);
}
