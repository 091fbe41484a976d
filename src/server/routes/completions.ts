/** `POST /v1/completions`. */

import { Hono } from "hono";
import type { ChosenLogprobs } from "../../model/logprobs.js";
import type { TextModel } from "../../run.js";
import { answer, type Format, finite } from "../answer.js";
import { ApiError } from "../errors.js";
import { TextRun, textOptions } from "../generation.js";
import { fitPrompt, openRequest } from "../request.js";
import { type CompletionRequest, completionSchema } from "../schema.js";
import { type AppEnv, type ServerState, servedModel } from "../state.js";

/** What an echoed text begins with. */
interface Echo {
  readonly text: string;
  readonly tokens: readonly number[];
  /** Of the tokens after the first; null where nobody wants any. */
  readonly logprobs: readonly ChosenLogprobs[] | null;
}

/** Tokens to add when a request does not say, as the OpenAI interface has it. */
const DEFAULT_TOKENS = 16;

export function completionRoutes(state: ServerState): Hono<AppEnv> {
  const schema = completionSchema(state.limits);
  return new Hono<AppEnv>().post("/v1/completions", async (context) => {
    const { body, signal, drop, requestId } = await openRequest(context, state, schema);
    const served = servedModel(state);
    const choices = choicesOf(body, state.limits.choices);
    const maxTokens = body.max_tokens ?? DEFAULT_TOKENS;
    const wanted = typeof body.logprobs === "number" ? { logprobs: body.logprobs } : {};
    const options = { ...textOptions(body, state, maxTokens), ...wanted };
    const prompts: (readonly number[])[] = [];
    for (const prompt of promptsOf(body)) {
      const tokens = typeof prompt === "string" ? await served.encoder.encode(prompt, true, signal) : prompt;
      prompts.push(fitPrompt(state, served, tokens, maxTokens));
    }
    for (const tokens of prompts) served.model.checkRequest({ tokens, ...options });
    const echoes = body.echo === true ? await echo(served.model, prompts, wanted.logprobs, signal) : null;
    const run = new TextRun(state, served, { prompts, choices, options, signal });
    return answer(state, served, run, completionFormat(served.model, echoes, choices), {
      stream: body.stream === true,
      includeUsage: body.stream_options?.include_usage === true,
      requestId,
      drop,
    });
  });
}

function choicesOf({ n, best_of, prompt }: CompletionRequest, limit: number): number {
  const choices = n ?? 1;
  if (typeof best_of === "number" && best_of !== choices) {
    throw new ApiError(400, "unsupported_value", "best_of must equal n", { param: "best_of" });
  }
  const prompts = Array.isArray(prompt) && typeof prompt[0] !== "number" ? prompt.length : 1;
  if (prompts * choices <= limit) return choices;
  const message = `prompts times n must be at most ${limit}, not ${prompts * choices}`;
  throw new ApiError(400, "invalid_value", message, { param: "n" });
}

function promptsOf({ prompt }: CompletionRequest): (string | number[])[] {
  if (typeof prompt === "string") return [prompt];
  return typeof prompt[0] === "number" ? [prompt as number[]] : (prompt as (string | number[])[]);
}

async function echo(
  model: TextModel,
  prompts: readonly (readonly number[])[],
  count: number | undefined,
  signal: AbortSignal,
): Promise<Echo[]> {
  const score = (tokens: readonly number[]) =>
    count === undefined ? null : model.promptLogprobs({ tokens }, count, { signal });
  return Promise.all(
    prompts.map(async (tokens) => ({
      text: model.tokenizer.decode(tokens),
      tokens,
      logprobs: await score(tokens),
    })),
  );
}

function completionFormat(model: TextModel, echoes: readonly Echo[] | null, choices: number): Format {
  const echoOf = (index: number) => echoes?.[Math.floor(index / choices)];
  /** How far the tokens of each text have come that was listed: a stream is listed piece by piece. */
  const ends = new Map<number, number>();
  const list = (index: number, chosen: readonly ChosenLogprobs[], before?: Echo) => {
    const { end, lists } = listLogprobs(model, chosen, ends.get(index) ?? 0, before);
    ends.set(index, end);
    return lists;
  };
  return {
    idPrefix: "cmpl",
    object: "text_completion",
    chunkObject: "text_completion",
    choice(index, { text, logprobs, finish }) {
      const before = echoOf(index);
      return {
        index,
        text: (before?.text ?? "") + text,
        logprobs: logprobs.length > 0 ? list(index, logprobs, before) : null,
        finish_reason: finish,
      };
    },
    opening(index) {
      const before = echoOf(index);
      if (!before) return null;
      const logprobs = before.logprobs ? list(index, [], before) : null;
      return { index, text: before.text, logprobs, finish_reason: null };
    },
    chunk(index, { text, logprobs, finish }) {
      if (text === "" && !logprobs && !finish) return null;
      return {
        index,
        text,
        logprobs: logprobs ? list(index, [logprobs]) : null,
        finish_reason: finish ?? null,
      };
    },
  };
}

/** The four lists of the interface, of an echoed prompt (whose first token has no probability) and of what follows. */
function listLogprobs(
  { tokenizer }: TextModel,
  chosen: readonly ChosenLogprobs[],
  offset: number,
  before?: Echo,
) {
  const tokens: string[] = [];
  const tokenLogprobs: (number | null)[] = [];
  const topLogprobs: (Record<string, number> | null)[] = [];
  const offsets: number[] = [];
  let at = offset;
  const add = (token: number, one: ChosenLogprobs | null) => {
    const text = tokenizer.tokenText(token);
    tokens.push(text);
    tokenLogprobs.push(one && finite(one.logprob));
    topLogprobs.push(
      one && Object.fromEntries(one.top.map((top) => [tokenizer.tokenText(top.token), finite(top.logprob)])),
    );
    offsets.push(at);
    if (tokenizer.decode([token]) !== "") at += text.length; // special tokens are not part of the text
  };
  for (const [i, token] of (before?.tokens ?? []).entries()) {
    add(token, before?.logprobs?.[i - 1] ?? null);
  }
  for (const one of chosen) add(one.token, one);
  const lists = { tokens, token_logprobs: tokenLogprobs, top_logprobs: topLogprobs, text_offset: offsets };
  return { lists, end: at };
}
