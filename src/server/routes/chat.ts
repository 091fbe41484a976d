/** `POST /v1/chat/completions`. */

import { Hono } from "hono";
import { type ChatMessage, renderChat } from "../../model/chat.js";
import type { ChosenLogprobs, TokenLogprob } from "../../model/logprobs.js";
import type { Tokenizer } from "../../model/tokenizer.js";
import { answer, type Format, finite } from "../answer.js";
import { ApiError } from "../errors.js";
import { TextRun, textOptions } from "../generation.js";
import { fitPrompt, openRequest } from "../request.js";
import { type ChatRequest, chatSchema } from "../schema.js";
import { type AppEnv, type ServerState, servedModel } from "../state.js";

export function chatRoutes(state: ServerState): Hono<AppEnv> {
  const schema = chatSchema(state.limits);
  return new Hono<AppEnv>().post("/v1/chat/completions", async (context) => {
    const { body, signal, drop, requestId } = await openRequest(context, state, schema);
    const served = servedModel(state);
    const { model, encoder } = served;
    const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? model.contextLength;
    const options = textOptions(body, state, maxTokens);
    const wanted = body.logprobs === true ? { logprobs: body.top_logprobs ?? 0 } : {};
    if (body.top_logprobs && body.logprobs !== true) {
      throw new ApiError(400, "invalid_value", "top_logprobs needs logprobs", { param: "top_logprobs" });
    }
    const variables = templateVariables(body);
    const text = renderChat(model.tokenizer, messagesOf(body), { variables });
    const tokens = await encoder.encode(text, false, signal);
    const prompt = fitPrompt(state, served, tokens, body.max_completion_tokens ?? body.max_tokens);
    model.checkRequest({ tokens: prompt, ...options, ...wanted });
    const run = new TextRun(state, served, {
      prompts: [prompt],
      choices: body.n ?? 1,
      options: { ...options, ...wanted },
      signal,
    });
    return answer(state, served, run, chatFormat(model.tokenizer), {
      stream: body.stream === true,
      includeUsage: body.stream_options?.include_usage === true,
      requestId,
      drop,
    });
  });
}

/** Messages as templates take them: contents are text. */
function messagesOf({ messages }: ChatRequest): ChatMessage[] {
  if (typeof messages === "string") return [{ role: "user", content: messages }];
  return messages.map(({ content, ...message }) => ({
    ...message,
    content: typeof content === "string" ? content : (content ?? []).map(({ text }) => text).join(""),
  }));
}

/** Names that the renderer sets itself. */
const RESERVED = new Set(["messages", "bos_token", "eos_token", "add_generation_prompt", "tools"]);

function templateVariables({ chat_template_kwargs }: ChatRequest): Record<string, unknown> {
  const variables = chat_template_kwargs ?? {};
  const taken = Object.keys(variables).find((name) => RESERVED.has(name));
  if (taken === undefined) return variables;
  throw new ApiError(400, "invalid_value", `chat_template_kwargs may not set ${taken}`, {
    param: `chat_template_kwargs.${taken}`,
  });
}

function chatFormat(tokenizer: Tokenizer): Format {
  return {
    idPrefix: "chatcmpl",
    object: "chat.completion",
    chunkObject: "chat.completion.chunk",
    choice: (index, { text, logprobs, finish }) => ({
      index,
      message: { role: "assistant", content: text, refusal: null, tool_calls: [] },
      logprobs: logprobs.length > 0 ? { content: logprobs.map((one) => entryOf(tokenizer, one)) } : null,
      finish_reason: finish,
    }),
    opening: (index) => ({
      index,
      delta: { role: "assistant", content: "" },
      logprobs: null,
      finish_reason: null,
    }),
    chunk(index, { text, logprobs, finish }) {
      if (text === "" && !logprobs && !finish) return null;
      return {
        index,
        delta: finish && text === "" ? {} : { content: text },
        logprobs: logprobs ? { content: [entryOf(tokenizer, logprobs)] } : null,
        finish_reason: finish ?? null,
      };
    },
  };
}

function entryOf(tokenizer: Tokenizer, chosen: ChosenLogprobs) {
  return { ...tokenOf(tokenizer, chosen), top_logprobs: chosen.top.map((one) => tokenOf(tokenizer, one)) };
}

function tokenOf(tokenizer: Tokenizer, { token, logprob }: TokenLogprob) {
  const text = tokenizer.tokenText(token);
  // A part of a character has no text whose bytes it would be.
  const bytes = text.includes("\uFFFD") ? null : [...new TextEncoder().encode(text)];
  return { token: text, logprob: finite(logprob), bytes };
}
