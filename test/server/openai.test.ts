/** The official client of the OpenAI interface, unmodified. */

import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Fixture, serve, until } from "./support.js";

let fixture: Fixture;
beforeAll(async () => {
  fixture = await serve();
});
afterAll(() => fixture?.close());

const MESSAGES = [{ role: "user", content: "The database connection" }] as const;
const chat = (body: object = {}) =>
  fixture.client.chat.completions.create({ model: "tiny", messages: [...MESSAGES], max_tokens: 12, ...body });

async function streamed(body: object = {}) {
  const chunks = [];
  const stream = await fixture.client.chat.completions.create({
    model: "tiny",
    messages: [...MESSAGES],
    max_tokens: 12,
    ...body,
    stream: true,
  });
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

describe("chat", () => {
  test("gives the text that the library gives", async () => {
    const expected = await fixture.model.generate({ messages: [...MESSAGES], maxTokens: 12 });
    const answer = await chat();
    expect(answer).toMatchObject({ object: "chat.completion", model: "tiny" });
    expect(answer.system_fingerprint).toMatch(/^isq-[0-9a-f]{12}$/);
    expect(answer.choices).toEqual([
      {
        index: 0,
        message: { role: "assistant", content: expected.text, refusal: null, tool_calls: [] },
        logprobs: null,
        finish_reason: "length",
      },
    ]);
    expect(answer.usage).toMatchObject({
      prompt_tokens: fixture.model.promptTokens({ messages: [...MESSAGES] }).length,
      completion_tokens: 12,
    });
  });

  test("streams the same text, a role first, a reason last, usage when asked", async () => {
    const whole = await chat({ seed: 3, temperature: 0.9 });
    const chunks = await streamed({ seed: 3, temperature: 0.9, stream_options: { include_usage: true } });
    expect(chunks[0].choices[0].delta).toEqual({ role: "assistant", content: "" });
    const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
    expect(text).toBe(whole.choices[0].message.content);
    const reasons = chunks.flatMap(({ choices }) =>
      choices.flatMap(({ finish_reason }) => finish_reason ?? []),
    );
    expect(reasons).toEqual(["length"]);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 12 } });
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    const plain = await streamed();
    expect(plain.every((chunk) => chunk.choices.length === 1 && chunk.usage === undefined)).toBe(true);
  });

  test("several choices differ, and the same seed gives the same, in a stream too", async () => {
    const options = { n: 3, seed: 11, temperature: 1 };
    const first = await chat(options);
    const texts = first.choices.map(({ message }) => message.content);
    expect(new Set(texts).size).toBe(3);
    expect((await chat(options)).choices).toEqual(first.choices);
    const parts = ["", "", ""];
    for (const { choices } of await streamed(options)) {
      for (const { index, delta } of choices) parts[index] += delta.content ?? "";
    }
    expect(parts).toEqual(texts);
    expect((await chat({ ...options, seed: -11 })).choices).not.toEqual(first.choices);
    expect((await chat({ n: 2, temperature: 1 })).choices).not.toEqual(
      (await chat({ n: 2, temperature: 1 })).choices,
    );
  });

  test("stop strings, bias and penalties reach the text", async () => {
    const [{ message }] = (await chat({ max_tokens: 30 })).choices;
    const word = message.content!.split(/\s+/).findLast((part) => part.length > 2)!;
    const stopped = await chat({ max_tokens: 30, stop: [word] });
    expect(stopped.choices[0]).toMatchObject({
      finish_reason: "stop",
      message: { content: message.content!.slice(0, message.content!.indexOf(word)) },
    });
    const first = (await chat({ max_tokens: 1, logprobs: true })).choices[0].logprobs!.content![0].token;
    const { tokens } = (await fixture.post("/tokenize", { text: first, add_special_tokens: false })).body;
    const banned = await chat({ max_tokens: 1, logit_bias: { [tokens[0]]: -100 } });
    expect(banned.choices[0].message.content).not.toBe(first);
    const penalized = await chat({ max_tokens: 40, frequency_penalty: 2, presence_penalty: 1 });
    expect(penalized.choices[0].message.content).not.toBe(
      (await chat({ max_tokens: 40 })).choices[0].message.content,
    );
  });

  test("log probabilities have text, bytes and the likeliest tokens", async () => {
    const [{ logprobs, message }] = (await chat({ logprobs: true, top_logprobs: 3 })).choices;
    const content = logprobs!.content!;
    expect(content).toHaveLength(12);
    expect(content.map(({ token }) => token).join("")).toBe(message.content);
    for (const entry of content) {
      expect(entry.top_logprobs).toHaveLength(3);
      expect(entry.top_logprobs[0]).toEqual({
        token: entry.token,
        logprob: entry.logprob,
        bytes: entry.bytes,
      });
      expect(new TextDecoder().decode(Uint8Array.from(entry.bytes!))).toBe(entry.token);
      expect(entry.logprob).toBeLessThan(0);
    }
    const chunks = await streamed({ logprobs: true, top_logprobs: 3 });
    const from = chunks.flatMap(({ choices }) => choices[0].logprobs?.content ?? []);
    expect(from).toEqual(content);
  });

  test("a message as parts of text, and a bare string, are the user's message", async () => {
    const expected = (await chat()).choices[0].message.content;
    const parts = [
      { type: "text", text: "The database" },
      { type: "text", text: " connection" },
    ];
    expect((await chat({ messages: [{ role: "user", content: parts }] })).choices[0].message.content).toBe(
      expected,
    );
    const bare = await fixture.post("/v1/chat/completions", {
      messages: MESSAGES[0].content,
      max_tokens: 12,
    });
    expect(bare.body.choices[0].message.content).toBe(expected);
  });
});

describe("completions", () => {
  const create = (body: object) =>
    fixture.client.completions.create({
      model: "tiny",
      prompt: "The court",
      max_tokens: 8,
      ...body,
    } as never) as unknown as Promise<OpenAI.Completion>;

  test("continue text, token ids and lists of them", async () => {
    const expected = await fixture.model.generate({ prompt: "The court", maxTokens: 8 });
    const tokens = [...fixture.model.promptTokens({ prompt: "The court" })];
    for (const prompt of ["The court", tokens]) {
      expect((await create({ prompt })).choices[0].text).toBe(expected.text);
    }
    const both = await create({ prompt: ["The court", "The database"], n: 2, temperature: 1, seed: 4 });
    expect(both.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    const second = await create({ prompt: "The database", n: 2, temperature: 1, seed: 4 });
    expect(both.choices.slice(2).map(({ text }) => text)).toEqual(second.choices.map(({ text }) => text));
    expect((await create({ max_tokens: undefined })).usage!.completion_tokens).toBe(16);
  });

  test("echo gives the prompt and what the model thought of it", async () => {
    const { choices } = await create({ echo: true, logprobs: 1, max_tokens: 2 });
    const [{ text, logprobs }] = choices;
    expect(text.startsWith("The court")).toBe(true);
    const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs!;
    expect(token_logprobs![0]).toBeNull();
    expect(token_logprobs!.slice(1).every((value) => value < 0)).toBe(true);
    expect(text_offset!.at(-1)).toBe(text.length - tokens!.at(-1)!.length);
    const logits = await fixture.model.logits(
      fixture.model.promptTokens({ prompt: "The court" }) as number[],
    );
    const row = logits.subarray(0, fixture.model.vocabulary);
    const total = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
    const [likeliest] = Object.values(top_logprobs![1]!);
    expect(likeliest).toBeCloseTo(row.reduce((most, logit) => Math.max(most, logit)) - total, 6);
    const stream = await fixture.client.completions.create({
      model: "tiny",
      prompt: "The court",
      max_tokens: 2,
      echo: true,
      logprobs: 1,
      stream: true,
    });
    let streamedText = "";
    const streamed: OpenAI.CompletionChoice.Logprobs[] = [];
    for await (const chunk of stream) {
      streamedText += chunk.choices[0].text;
      if (chunk.choices[0].logprobs) streamed.push(chunk.choices[0].logprobs);
    }
    expect(streamedText).toBe(text);
    expect(streamed.length).toBe(3);
    expect(streamed.flatMap((part) => part.tokens)).toEqual(tokens);
    expect(streamed.flatMap((part) => part.text_offset)).toEqual(text_offset);
  });
});

describe("errors are those of the client", () => {
  test("bad values, unknown models, wrong keys", async () => {
    await expect(chat({ temperature: 3 })).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(chat({ temperature: 3 })).rejects.toMatchObject({ status: 400, param: "temperature" });
    await expect(fixture.client.models.retrieve("other")).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const stranger = new OpenAI({ baseURL: `${fixture.url}/v1`, apiKey: "wrong", maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
    const { data } = await fixture.client.models.list();
    expect(data).toMatchObject([{ id: "tiny", object: "model", owned_by: "local", isq: "Q4K" }]);
  });

  test("a prompt beyond the context, before a stream begins", async () => {
    const messages = [{ role: "user", content: "word ".repeat(2200) }];
    const refusal = { status: 400, code: "context_length_exceeded" };
    await expect(chat({ messages })).rejects.toMatchObject(refusal);
    await expect(streamed({ messages })).rejects.toMatchObject(refusal);
  });

  test("an abort ends the text and frees its place", async () => {
    const stream = await fixture.client.chat.completions.create({
      model: "tiny",
      messages: [...MESSAGES],
      max_tokens: 2000,
      logit_bias: { 2: -100 },
      stream: true,
    });
    let count = 0;
    for await (const _ of stream) if (++count === 5) stream.controller.abort();
    await until(() => fixture.model.load.running === 0);
    const controller = new AbortController();
    const waiting = fixture.client.chat.completions.create(
      { model: "tiny", messages: [...MESSAGES], max_tokens: 2000, logit_bias: { 2: -100 } },
      { signal: controller.signal },
    );
    waiting.catch(() => {});
    await until(() => fixture.model.load.running === 1);
    controller.abort();
    await expect(waiting).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    await until(() => fixture.model.load.running === 0);
  });
});
