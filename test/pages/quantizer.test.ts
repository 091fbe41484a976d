/** The quantizer in a browser: a dropped file, worker threads, the GPU, and nothing that leaves the page. */

import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { quantizeFile } from "../../pages/quantizer/quantize-file.js";
import { chromiumMissing, dropFiles, openChromium, serveProject } from "../../scripts/browser.mjs";
import { wasm } from "../../src/backends/wasm.js";
import { expectAccessible } from "./axe.js";

const SOURCE = "models/tiny-mistral/model.safetensors";
const hashOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** What this Node makes of the file. */
async function expected(type: "Q4K" | "Q8_0"): Promise<string> {
  const file = new Blob([readFileSync(SOURCE)]);
  return hashOf((await quantizeFile("tiny.safetensors", file, type, await wasm())).bytes);
}

describe("in a browser", () => {
  if (chromiumMissing !== undefined) {
    test.skip(`not opened: ${chromiumMissing}`, () => {});
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "isq-quantizer-"));
  let browser: Browser;
  const servers: Awaited<ReturnType<typeof serveProject>>[] = [];
  beforeAll(async () => {
    browser = await openChromium();
  });
  afterAll(async () => {
    await browser?.close();
    for (const server of servers) await server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** The page, from a server with or without isolation, and everything it asks for. */
  async function open(isolated: boolean) {
    const html = readFileSync("docs/quantizer/index.html", "utf8");
    const server = await serveProject({ pages: { "/docs/quantizer/": html }, isolated });
    servers.push(server);
    const page = await browser.newPage();
    const asked: string[] = [];
    const problems: string[] = [];
    page.on("request", (request) => {
      const { pathname, protocol } = new URL(request.url());
      if (protocol !== "data:" && protocol !== "blob:") {
        asked.push(`${request.method()} ${pathname}${request.postData() ?? ""}`);
      }
    });
    page.on("pageerror", (error) => problems.push(error.message));
    await page.goto(`${server.url}/docs/quantizer/`);
    return { page, asked, problems, server };
  }

  /** A copy of the model in a folder of the test, whole or cut, under a name of its own. */
  function copyOf(name: string, byteLength?: number): string {
    const path = join(folder, name);
    writeFileSync(path, readFileSync(SOURCE).subarray(0, byteLength));
    return path;
  }

  /** sha256 of the file that the page offers. */
  async function saved(page: Page): Promise<{ name: string; hash: string }> {
    await page.waitForSelector("#result:not([hidden])", { timeout: 120_000 });
    const waiting = page.waitForEvent("download");
    await page.press("#download", "Enter");
    const download = await waiting;
    return { name: download.suggestedFilename(), hash: hashOf(readFileSync(await download.path())) };
  }

  test("a dropped file is quantized by worker threads, to the bytes of Node, and nothing is sent", async () => {
    const { page, asked, problems, server } = await open(true);
    await page.selectOption("#backend", "threads");
    await dropFiles(page, [copyOf("tiny.safetensors")]);
    expect(await saved(page)).toEqual({ name: "tiny-q4k.safetensors", hash: await expected("Q4K") });
    expect(await page.textContent("#status")).toMatch(/^tiny\.safetensors quantized by threads in /);
    const rows = await page.getByRole("row").allInnerTexts();
    expect(rows).toContain("model.layers.0.mlp.gate_proj.weight\tBF16\tQ4K\t110,592\t");
    await expectAccessible(page);
    expect(new Set(asked)).toEqual(new Set(["GET /docs/quantizer/", "GET /docs/quantizer/worker.js"]));
    expect(new Set(server.requests.map(({ method }) => method))).toEqual(new Set(["GET"]));
    expect(problems).toEqual([]);
    await page.close();
  });

  test("the GPU, where there is one, gives the same bytes", async () => {
    const { page, asked } = await open(true);
    await page.selectOption("#type", "Q8_0");
    await page.selectOption("#backend", "webgpu");
    await page.setInputFiles("#file", SOURCE);
    expect((await saved(page)).hash).toBe(await expected("Q8_0"));
    expect(await page.textContent("#status")).toMatch(/quantized by webgpu in /);
    expect(new Set(asked)).toEqual(new Set(["GET /docs/quantizer/"]));
    await page.close();
  });

  test("without isolation threads are refused in a sentence, and one thread does it", async () => {
    const { page, asked } = await open(false);
    await page.selectOption("#backend", "threads");
    await dropFiles(page, [copyOf("tiny.safetensors")]);
    await expect.poll(() => page.textContent("#problem")).toMatch(/Cross-Origin-Opener-Policy/);
    await page.selectOption("#backend", "wasm");
    await dropFiles(page, [copyOf("tiny.safetensors")]);
    expect((await saved(page)).hash).toBe(await expected("Q4K"));
    await dropFiles(page, [copyOf("cut.safetensors", 5000)]);
    await expect.poll(() => page.textContent("#problem")).toMatch(/cut\.safetensors/);
    expect(asked).toEqual(["GET /docs/quantizer/"]);
    await page.close();
  });
});
