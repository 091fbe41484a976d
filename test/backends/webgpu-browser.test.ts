/** The GPU of a browser: headless Chromium, whose SwiftShader is an adapter. */

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chromiumMissing, openChromium, serveProject } from "../../scripts/browser.mjs";
import { bundleForBrowser } from "../../scripts/bundle.mjs";
import type { PageReport } from "../suites/gpu-page.js";
import { SEED, SLOW } from "../suites/rows.js";

/** A type of every family of kernels; all of them in the slow run. */
const TYPES = ["Q8_0", "Q4K", "HQQ4"];

const PAGE = `<!doctype html><title>gpu</title><script type="module">
import { runGpuPage } from "/out/gpu-page.mjs";
window.runGpuPage = runGpuPage;
</script>`;

describe("WebGPU in a browser", () => {
  if (chromiumMissing !== undefined) {
    it.skip(`not opened: ${chromiumMissing}`, () => {});
    return;
  }
  let browser: Browser;
  let server: Awaited<ReturnType<typeof serveProject>>;
  beforeAll(async () => {
    await bundleForBrowser("test/suites/gpu-page.ts", "out/gpu-page.mjs");
    server = await serveProject({ pages: { "/gpu": PAGE } });
    browser = await openChromium();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  it("gives the reference's bytes", async () => {
    const page = await browser.newPage();
    await page.goto(`${server.url}/gpu`);
    await page.waitForFunction("window.runGpuPage");
    const call = `runGpuPage(${SEED}, ${JSON.stringify(SLOW ? undefined : TYPES)})`;
    const report = (await page.evaluate(call)) as PageReport;
    expect(report.failures).toEqual([]);
    expect(report.exactness).toBe("repaired");
    expect(report.checked).toBeGreaterThan(10);
  });
});
