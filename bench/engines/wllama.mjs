// llama.cpp as WebAssembly: @wllama/wllama in headless Chromium (its module needs memory64, which Node 20 lacks), in a page
// that is isolated so that it may have threads.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { FIRST_WORD } from "../lib/model.mjs";

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/google-chrome"];
const library = new URL("../node_modules/@wllama/wllama/esm/", import.meta.url);
const PAGE = "<!doctype html><meta charset=utf-8><title>wllama</title>";
const TYPES = {
  js: "text/javascript",
  wasm: "application/wasm",
  html: "text/html",
  gguf: "application/octet-stream",
};

function serve(path) {
  const files = new Map([
    ["/model.gguf", path],
    ["/index.js", fileURLToPath(new URL("index.js", library))],
    ["/wllama.wasm", fileURLToPath(new URL("wasm/wllama.wasm", library))],
  ]);
  const server = createServer(({ url }, response) => {
    response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
    response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    if (url === "/") response.setHeader("Content-Type", TYPES.html).end(PAGE);
    else if (files.has(url)) {
      const file = files.get(url);
      response.setHeader("Content-Type", TYPES[basename(file).split(".").pop()]);
      response.setHeader("Content-Length", statSync(file).size);
      createReadStream(file).pipe(response);
    } else response.writeHead(404).end();
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

export async function openWllama(path, { threads, context }) {
  const executablePath = process.env.CHROMIUM ?? BROWSERS.find((path) => existsSync(path));
  const server = await serve(path);
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const inspector = await browser.newBrowserCDPSession();
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate(loadInPage, { threads, context });
  const complete = (tokens, count) =>
    page.evaluate(([prompt, count]) => globalThis.complete(prompt, count), [textOf(tokens), count]);
  return {
    async processorSeconds() {
      const { processInfo } = await inspector.send("SystemInfo.getProcessInfo");
      return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
    },
    async fill(tokens) {
      if (tokens.length > 0) await complete(tokens, 1);
    },
    async prefill(before, tokens) {
      const { prompt_n, prompt_ms } = await complete([...before, ...tokens], 1);
      // The begin-of-text token in front is one more, where nothing was before.
      if (prompt_n < tokens.length || prompt_n > tokens.length + 1) throw new Error(`ran ${prompt_n} tokens`);
      return prompt_ms / 1000;
    },
    async generate(before, count) {
      const { predicted_n, predicted_ms } = await complete(before, count);
      if (predicted_n !== count) throw new Error(`generated ${predicted_n} tokens`);
      // The first token came from the logits of the prompt.
      return (predicted_ms / 1000) * (count / (count - 1));
    },
    async close() {
      await browser.close();
      server.close();
    },
  };
}

/** Runs in the page. */
async function loadInPage({ threads, context }) {
  if (!crossOriginIsolated) throw new Error("the page is not isolated");
  const { Wllama } = await import("/index.js");
  const model = await (await fetch("/model.gguf")).blob();
  const wllama = new Wllama({ default: "/wllama.wasm" });
  const options = { n_ctx: context, n_batch: 512, n_parallel: 1, n_gpu_layers: 0, n_threads: threads };
  await wllama.loadModel([model], options);
  globalThis.complete = async (prompt, max_tokens) => {
    const options = { prompt, max_tokens, temperature: 0, ignore_eos: true, cache_prompt: true };
    return (await wllama.createCompletion(options)).timings;
  };
}

/** wllama takes text: the words of the synthetic vocabulary, one token each. */
function textOf(tokens) {
  return tokens.length === 0 ? "0" : tokens.map((token) => token - FIRST_WORD).join(" ");
}
