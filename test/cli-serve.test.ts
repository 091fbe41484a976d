/** `isq serve`, `isq re-isq`, conversations and `isq bench`, as a user runs them. */

import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, describe, expect, test } from "vitest";
import { isq, start, startServing } from "./cli-serve-support.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const MODEL = ["plain", "-m", "models/tiny-mistral", "-a", "mistral"];
const folder = mkdtempSync(join(tmpdir(), "isq-serve-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("serve", () => {
  test("the command that users know starts a server, which the official client and re-isq talk to", async () => {
    symlinkSync(join(root, "models"), join(folder, "models"));
    const args = ["--log", "output.txt", "--isq", "Q2K", ...MODEL];
    const server = await startServing(args, {}, folder);
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
    const [listed] = (await client.models.list()).data;
    expect(listed).toMatchObject({ id: "tiny-mistral", isq: "Q2K", backend: "threads" });
    const ask = { model: "tiny-mistral", messages: [{ role: "user" as const, content: "The database" }] };
    const { usage } = await client.chat.completions.create({ ...ask, max_tokens: 5 });
    expect(usage?.completion_tokens).toBe(5);

    const reIsq = (...rest: string[]) => isq("re-isq", "--url", server.url, ...rest);
    expect(await reIsq("Q9")).toMatchObject({ status: 2, stderr: expect.stringContaining("Q4K, Q5K") });
    const done = await reIsq("q8_0");
    expect(done.stderr).toContain("Q8_0 on");
    expect(done).toMatchObject({ status: 0, stdout: expect.stringMatching(/^Q8_0: 43 tensors changed in/) });
    expect(JSON.parse((await reIsq("Q8_0", "--json")).stdout)).toMatchObject({
      status: "done",
      type: "Q8_0",
    });
    expect((await client.models.list()).data).toMatchObject([{ isq: "Q8_0" }]);

    // A text that runs may finish.
    const stream = await client.chat.completions.create({
      ...ask,
      max_tokens: 40,
      stream: true,
      logit_bias: { 2: -100 },
    });
    server.child.kill("SIGTERM");
    let count = 0;
    let finish: string | null = null;
    for await (const { choices } of stream) {
      if (choices[0]?.delta.content) count++;
      finish = choices[0]?.finish_reason ?? finish;
    }
    expect([count > 20, finish]).toEqual([true, "length"]);
    expect(await server.ended).toEqual({ code: 0, signal: null });
    expect(server.out.stderr).toContain("stopping; 1 texts may finish");
    const lines = readFileSync(join(folder, "output.txt"), "utf8").trim().split("\n");
    expect(lines.map((line) => JSON.parse(line).msg)).toContain("answered");
    expect(await reIsq("Q4K")).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("no server answers"),
    });
  });

  test("a key from the environment, texts without paged attention, a seed, a template, names", async () => {
    const template = join(folder, "template.json");
    writeFileSync(template, JSON.stringify({ chat_template: "{{ messages[0].content }}" }));
    const server = await startServing(
      [
        ...["--no-paged-attn", "--max-seqs", "2", "--seed", "7", "--model-name", "mine", "-c", template],
        ...["-n", "0:6", "--prompt-batchsize", "8", "--allow-host", "a.example", "--truncate-sequence"],
        ...["--token-source", "none", "--device", "cpu", "--threads", "1", ...MODEL, "--isq", "Q4K"],
      ],
      { ISQ_API_KEY: "secret" },
    );
    const post = async (path: string, body: object) => {
      const headers = { authorization: "Bearer secret", "content-type": "application/json" };
      const response = await fetch(server.url + path, {
        method: "POST",
        headers,
        body: JSON.stringify(body),
      });
      return response.json();
    };
    expect((await fetch(`${server.url}/v1/models`)).status).toBe(401);
    const drawn = { max_tokens: 8, temperature: 1 };
    const chat = await post("/v1/chat/completions", { messages: "The database", ...drawn });
    const { tokens } = await post("/tokenize", { text: "The database", add_special_tokens: false });
    const plain = await post("/v1/completions", { prompt: tokens, ...drawn });
    expect(chat).toMatchObject({ model: "mine", usage: { prompt_tokens: tokens.length } });
    expect(chat.choices[0].message.content).toBe(plain.choices[0].text); // the seed is the server's
    const reIsq = (...key: string[]) => isq("re-isq", "Q8_0", "--url", server.url, ...key);
    expect(await reIsq()).toMatchObject({ status: 2, stderr: expect.stringMatching(/refused: .*API key/) });
    expect(await reIsq("--api-key", "secret")).toMatchObject({ status: 0 });
    const metrics = await (
      await fetch(`${server.url}/metrics`, { headers: { authorization: "Bearer secret" } })
    ).text();
    expect(metrics).toContain("isq_places 2\n");
    expect(metrics).toContain("isq_cache_blocks 65\n"); // one context of 2048 positions and a block
    server.child.kill("SIGINT");
    expect(await server.ended).toEqual({ code: 0, signal: null });
  });
});

describe("contradictions are refused before anything is loaded, with what would do", () => {
  const bad = join(folder, "bad.toml");
  writeFileSync(bad, '[model]\nmodel_id = "models/tiny-mistral"\nisq = "Q4K"\n');
  const twice = join(folder, "twice.toml");
  writeFileSync(twice, '[model]\nmodel_id = "models/tiny-mistral"\nimatrix = "a"\n');
  const notJinja = join(folder, "bad.jinja");
  writeFileSync(notJinja, "{% if %}");
  test.each<[string[], RegExp]>([
    [["--paged-attn", "--no-paged-attn", ...MODEL], /--paged-attn.*--no-paged-attn/],
    [["--no-paged-attn", "--pa-ctxt-len", "64", ...MODEL], /--no-paged-attn.*--pa-ctxt-len/],
    [["--pa-gpu-mem", "64", "--pa-gpu-mem-usage", "0.5", ...MODEL], /--pa-gpu-mem /],
    [["--pa-gpu-mem-usage", "2", ...MODEL], /above 0 and at most 1/],
    [["--pa-blk-size", "16", ...MODEL], /choices are 32/],
    [["--no-kv-cache", "--pa-ctxt-len", "64", ...MODEL], /--no-kv-cache.*--pa-ctxt-len/],
    [["--imatrix", "a", "--calibration-file", "b", ...MODEL], /--imatrix.*--calibration-file/],
    [["--interactive-mode", "--port", "1", ...MODEL], /--interactive-mode.*--port/],
    [["-i", ...MODEL, "-i", "a"], /name a type with --isq/],
    [["--throughput", ...MODEL], /needs --interactive-mode/],
    [["--api-key", "a", "--allow-without-key", ...MODEL], /--allow-without-key.*--api-key/],
    [["--serve-ip", "0.0.0.0", ...MODEL], /--api-key.*--allow-without-key/],
    [["--backend", "wasm", ...MODEL], /take auto or threads/],
    [["--backend", "gpu", ...MODEL], /choices are auto, threads/],
    [["--device", "cuda", ...MODEL], /webgpu/],
    [["--device", "webgpu", "--backend", "threads", ...MODEL], /chosen instead of backend/],
    [["--token-source", "cache", ...MODEL], /choices are none/],
    [["--prompt-batchsize", "0", ...MODEL], /from 1/],
    [["--port", "70000", ...MODEL], /0 to 65535/],
    [["--max-seqs", "5000", ...MODEL], /1 to 4096/],
    [["-n", "7", ...MODEL], /the model has 6 layers/],
    [["-n", "0:3;1:3", ...MODEL], /there is no device 1: 0 is the one that the model is put on/],
    [["-n", "0:3;0:3", ...MODEL], /named twice/],
    [["-n", "three", ...MODEL], /DEVICE:LAYERS/],
    [["--isq", "Q4K", ...MODEL, "--isq", "Q5K"], /before and after plain/],
    [["--chat-template", notJinja, ...MODEL], /not Jinja/],
    [["--log", "no/such/folder/log", ...MODEL], /cannot write no\/such\/folder\/log/],
    [["plain"], /--model-id/],
    [["gguf", "-m", "models", "-f", "../a.gguf"], /without a folder/],
    [["gguf", "-m", "models", "-f", "a.gguf", "b.gguf"], /b\.gguf is no shard/],
    [["toml", "-f", bad], /isq.*the keys are model_id, arch, from_uqff/],
    [["--imatrix", "b", "toml", "-f", twice], /twice\.toml says it too/],
    [["toml", "-f", "package.json"], /is not TOML/],
    [[], /plain .*gguf .*toml/s],
  ])("serve %j", async (args, message) => {
    const { status, stdout, stderr } = await isq("serve", ...args);
    expect(stderr.replaceAll("\n", " ")).toMatch(message);
    expect([status, stdout]).toEqual([2, ""]);
  });

  test("run --top-p 1.5", async () => {
    const { status, stderr } = await isq("run", "-p", "a", "--top-p", "1.5", ...MODEL);
    expect([status, stderr]).toEqual([2, expect.stringContaining("above 0 and at most 1")]);
  });
});

test("gguf and toml name the same model as plain; the tokenizer is in the file or elsewhere", async () => {
  const save = ["quantize", "-m", "models/tiny-mistral", "--isq", "Q8_0", "-o", join(folder, "t.gguf")];
  expect((await isq(...save)).status).toBe(0);
  const run = (...form: string[]) => isq("run", "-p", "The database connection", "-n", "8", ...form);
  const expected = (await run("--isq", "Q8_0", ...MODEL)).stdout;
  expect(expected.length).toBeGreaterThan(10);
  const gguf = ["gguf", "-m", folder, "-f", "t.gguf"];
  expect((await run(...gguf)).stdout).toBe(expected);
  expect((await run(...gguf, "-t", "models/tiny-mistral")).stdout).toBe(expected);
  const file = join(folder, "model.toml");
  const lines = [`quantized_model_id = "${folder}"`, 'quantized_filename = "t.gguf"'];
  const tokenizer = 'tokenizer_json = "models/tiny-mistral/tokenizer.json"';
  writeFileSync(file, [tokenizer, "[model]", ...lines].join("\n"));
  expect((await run("toml", "-f", file)).stdout).toBe(expected);
});

describe("conversations", () => {
  test("commands, answers, one that Ctrl-C stops, and Ctrl-C when nothing is said", async () => {
    const talk = start(["serve", "-i", "--throughput", "--isq", "Q8_0", ...MODEL]);
    const say = (text: string) => talk.child.stdin.write(`${text}\n`);
    await talk.waitFor(/^> /);
    say("\\help");
    await talk.waitFor(/\\system MESSAGE.*> /s);
    say("\\dance");
    await talk.waitFor(/There is no \\dance; the commands are \\help, \\system and \\exit/);
    say("\\system");
    await talk.waitFor(/needs a message/);
    say("\\system Answer at length.");
    say("The database connection");
    await talk.waitFor(/message\.\n> > .{40}/s);
    talk.child.kill("SIGINT");
    await talk.waitFor(/\d+ tokens, [\d.]+ per second\n> $/);
    talk.child.kill("SIGINT");
    expect(await talk.ended).toEqual({ code: 0, signal: null });
  });

  test("\\exit ends it, and so does the end of the input", async () => {
    const args = ["run", "--isq", "Q8_0", "-n", "4", ...MODEL];
    const [first, second] = [start(args), start(args)];
    first.child.stdin.end("The database\n\\exit\nnever read\n");
    second.child.stdin.end("The database\n");
    for (const talk of [first, second]) {
      expect(await talk.ended).toEqual({ code: 0, signal: null });
      expect(talk.out.stdout).toMatch(/^> [^>]+\.\.\.\n> $/);
    }
  });
});

test("bench prints a line per test and number of texts", async () => {
  const args = ["bench", "-p", "40", "-g", "6", "-r", "2", "-c", "1,3", "--isq", "Q4K"];
  const { status, stdout } = await isq(...args, "--json", ...MODEL);
  expect(status).toBe(0);
  const { rows, backend, isq: type } = JSON.parse(stdout);
  expect([backend, type]).toEqual([expect.stringMatching(/^threads \(\d+\)$/), "Q4K"]);
  expect(
    rows.map(({ test, concurrency }: { test: string; concurrency: number }) => [test, concurrency]),
  ).toEqual([
    ["tg 6", 1],
    ["pp 40", 1],
    ["tg 6", 3],
    ["pp 40", 3],
  ]);
  for (const { mean, concurrency, throughput } of rows) expect(throughput).toBeCloseTo(mean * concurrency);
  const nothing = await isq("bench", "-p", "0", "-g", "0", ...MODEL);
  expect(nothing).toMatchObject({ status: 2, stderr: expect.stringContaining("leave nothing to measure") });
  const tooLong = await isq("bench", "-p", "2048", ...MODEL);
  expect(tooLong).toMatchObject({ status: 2, stderr: expect.stringContaining("context of 2048") });
});
