/** The server's page in a browser: by keyboard, as a screen reader is told of it, and under its own strict policy. */

import { readFileSync } from "node:fs";
import type { Browser, Page, Route } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromiumMissing, openChromium } from "../../scripts/browser.mjs";
import { serverPageModule } from "../../scripts/build-pages.mjs";
import type { TextModel } from "../../src/run.js";
import { type Fixture, KEY, loadModel, serve, until } from "../server/support.js";
import { expectAccessible } from "./axe.js";

/** Machines may be busy: what is waited for has the test's own time limit, all but. */
const eventually = <Value>(read: () => Value) => expect.poll(read, { timeout: 120_000 });

test("the page in the server is what the sources make", async () => {
  expect(readFileSync("src/server/page-files.ts", "utf8")).toBe(await serverPageModule());
});

describe("in a browser", () => {
  if (chromiumMissing !== undefined) {
    test.skip(`not opened: ${chromiumMissing}`, () => {});
    return;
  }
  let browser: Browser;
  let page: Page;
  let fixture: Fixture;
  /** Lets the server have its model. */
  let finishLoading: () => void;
  const problems: string[] = [];
  const requests: string[] = [];

  beforeAll(async () => {
    const model = await loadModel();
    let url: string | undefined;
    const loading = new Promise<TextModel>((resolve) => {
      finishLoading = () => resolve(model);
    });
    const opening = serve({}, loading, (listening) => {
      url = listening;
    });
    await until(() => url !== undefined);
    browser = await openChromium();
    page = await browser.newPage();
    page.on("console", (message) => problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(url!);
    await page.getByText("The model is being loaded…").waitFor();
    finishLoading();
    fixture = await opening;
  });
  afterAll(async () => {
    await browser?.close();
    await fixture?.close();
  });

  const text = (selector: string) => page.textContent(selector);
  const focused = () => page.evaluate(() => document.activeElement?.id);
  /** Presses Tab until something has the focus. */
  const tabTo = async (target: string, key = "Tab") => {
    for (let i = 0; i < 25; i++) {
      if ((await focused()) === target) return;
      await page.keyboard.press(key);
    }
    throw new Error(`the Tab key does not reach ${target}; it is at ${await focused()}`);
  };
  const say = async (message: string) => {
    await page.locator("#message").focus();
    await page.keyboard.type(message);
    await page.keyboard.press("Enter");
  };
  const turns = () => page.locator("#log p").allInnerTexts();
  const idle = () => page.waitForSelector("#stop:disabled");

  test("a key is asked for, a wrong one refused, the right one kept in the tab", async () => {
    await page.waitForSelector("#key-part:not([hidden])");
    expect(await focused()).toBe("key");
    expect(await page.isVisible("#parts")).toBe(false);
    await expectAccessible(page);
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await eventually(() => page.getByRole("alert").textContent()).toMatch(/needs an API key/);
    await page.keyboard.press("Control+a");
    await page.keyboard.type(KEY);
    await page.keyboard.press("Enter");
    await page.waitForSelector("#parts:not([hidden])");
    await page.reload();
    await page.waitForSelector("#parts:not([hidden])");
    expect(await text("#state")).toMatch(/^tiny: Q4K, [\d.]+ MB, context of 2048 tokens, on threads \(2\)$/);
    expect(await text("[role=alert]")).toBe("");
    await expectAccessible(page);
  });

  test("an answer arrives piece by piece and is what the interface says; the conversation goes on", async () => {
    await page.evaluate(() => {
      const lengths: number[] = [];
      Object.assign(globalThis, { lengths });
      const log = document.getElementById("log") as HTMLElement;
      const note = () => lengths.push(log.lastElementChild?.lastElementChild?.textContent?.length ?? 0);
      new MutationObserver(note).observe(log, { childList: true, subtree: true, characterData: true });
    });
    await page.locator("summary").click();
    await page.fill("#most", "24");
    await say("The database");
    await page.waitForSelector("#log[aria-busy=true]", { state: "attached" });
    await idle();
    const messages = [{ role: "user", content: "The database" }] as const;
    const answer = await fixture.client.chat.completions.create({
      model: "tiny",
      messages: [...messages],
      max_tokens: 24,
    });
    const said = answer.choices[0].message.content!;
    expect(await page.locator("#log p > span").allTextContents()).toEqual(["The database", said]);
    expect(await text("#chat-status")).toMatch(/^\d+ tokens, [\d.]+ per second$/);
    const lengths = await page.evaluate(() => (globalThis as unknown as { lengths: number[] }).lengths);
    expect(new Set(lengths).size).toBeGreaterThan(8);
    await say("And then?");
    await idle();
    const second = await fixture.client.chat.completions.create({
      model: "tiny",
      messages: [...messages, { role: "assistant", content: said }, { role: "user", content: "And then?" }],
      max_tokens: 24,
    });
    const spans = await page.locator("#log p > span").allTextContents();
    expect(spans.slice(2)).toEqual(["And then?", second.choices[0].message.content]);
    await expectAccessible(page);
  });

  test("Stop ends an answer and frees its place; what was said stays", async () => {
    await page.fill("#most", "2000");
    await page.fill("#temperature", "1.5");
    await page.fill("#seed", "3");
    await say("Tell me more");
    await page.waitForFunction(
      () => (document.querySelector("#log p:last-child")?.textContent?.length ?? 0) > 40,
    );
    expect(fixture.model.load.running).toBe(1);
    await tabTo("stop");
    await page.keyboard.press("Enter");
    await until(() => fixture.model.load.running === 0);
    await eventually(() => text("#chat-status")).toBe("Stopped.");
    expect(await focused()).toBe("message");
    expect((await turns()).at(-1)!.length).toBeGreaterThan(40);
  });

  test("a plain text is continued without the template; markup in it stays text", async () => {
    await page.click("#clear");
    await page.fill("#most", "8");
    await page.fill("#temperature", "0");
    await page.selectOption("#form", "text");
    const markup = "<img src=x onerror=alert(1)> The";
    await say(markup);
    await idle();
    const answer = await fixture.client.completions.create({ model: "tiny", prompt: markup, max_tokens: 8 });
    expect(await page.locator("#log p > span").allTextContents()).toEqual([markup, answer.choices[0].text]);
    expect(await page.locator("img").count()).toBe(0);
  });

  test("a refusal is announced in the server's words, and what was typed is back", async () => {
    const long = "again ".repeat(3000);
    await page.fill("#message", long);
    await page.press("#message", "Enter");
    const alert = page.getByRole("alert");
    await eventually(() => alert.textContent()).toMatch(/2048/);
    expect(await page.inputValue("#message")).toBe(long);
    expect(await page.locator("#log p").count()).toBe(2);
    await page.click("#clear");
    expect(await alert.textContent()).toBe("");
  });

  test("a field out of range is shown, also where it was folded away", async () => {
    await page.fill("#temperature", "5");
    await page.locator("summary").click();
    await page.fill("#message", "Again");
    await page.press("#message", "Enter");
    await page.waitForSelector("#temperature:focus");
    await page.fill("#temperature", "0");
    await page.fill("#message", "");
    expect(await page.locator("#log p").count()).toBe(0);
  });

  test("every tensor with its type, size and remark; the list can be filtered", async () => {
    const plan = (await fixture.get("/v1/isq/plan")).body;
    expect(await text("#tensors-summary")).toMatch(/^14 BF16, 43 Q4K: [\d.]+ MB, \d\.\d{3} bits per weight$/);
    const rows = page.getByRole("region", { name: "List of tensors" }).getByRole("row");
    expect(await rows.count()).toBe(58);
    const gate = "model.layers.0.mlp.gate_proj.weight";
    const row = plan.rows.find(({ tensor }: { tensor: string }) => tensor === gate);
    await tabTo("filter");
    await page.keyboard.type("layers.0.mlp.gate");
    expect((await rows.allInnerTexts())[1].split("\t")).toEqual([
      gate,
      "Q4K",
      row.shape.join(" × "),
      "4.500",
      row.byteLength.toLocaleString("en"),
      "ggml",
      "",
    ]);
    expect(await text("#tensors-hint")).toBe("1 of 57 tensors");
    await page.keyboard.press("Control+a");
    await page.keyboard.press("Delete");
    await tabTo("tensors");
  });

  test("what another type would change is told without changing anything", async () => {
    await page.selectOption("#type", "Q2K");
    await tabTo("preview");
    await page.keyboard.press("Enter");
    await eventually(() => text("#job")).toMatch(
      /^Q2K: [\d.]+ MB instead of [\d.]+ MB, \d\.\d{3} bits per weight instead of \d\.\d{3}/,
    );
    expect((await fixture.get("/v1/isq/plan")).body.requested).toBe("Q4K");
  });

  test("re-ISQ: progress, tensors and perplexity follow", async () => {
    const sample = await page.inputValue("#text");
    const before = (await fixture.post("/v1/isq/perplexity", { text: sample })).body;
    await page.evaluate(() => {
      const seen: number[] = [];
      Object.assign(globalThis, { seen });
      const bar = document.getElementById("progress") as HTMLProgressElement;
      new MutationObserver(() => seen.push(bar.value)).observe(bar, { attributes: true });
    });
    await tabTo("quantize", "Shift+Tab");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#quantize:disabled");
    await page.waitForSelector("#quantize:enabled");
    expect(await text("#job")).toMatch(/^Now Q2K: 43 tensors changed in [\d.]+ s, from the files\.$/);
    expect(await text("#progress-text")).toMatch(/^43 of 43 tensors, (\d+) of \1 layers/);
    expect(await page.evaluate(() => (globalThis as unknown as { seen: number[] }).seen.at(-1))).toBe(43);
    expect(await text("#state")).toMatch(/^tiny: Q2K/);
    expect(await text("#tensors-summary")).toContain("43 Q2K");
    const after = (await fixture.post("/v1/isq/perplexity", { text: sample })).body;
    const history = page.getByRole("table", { name: "Perplexity of the text" }).getByRole("row");
    const rows = (await history.allInnerTexts()).map((row) => row.split("\t"));
    expect(rows.map(([type]) => type)).toEqual(["type", "Q4K", "Q2K"]);
    for (const [i, { tokenWeighted }] of [before, after].entries()) {
      expect(Number(rows[i + 1][3].split(" ± ")[0])).toBeCloseTo(tokenWeighted, 3);
    }
    const change = 100 * (after.tokenWeighted / before.tokenWeighted - 1);
    expect(change).toBeGreaterThan(1);
    expect(rows.map((row) => row[4]).slice(1)).toEqual(["", `+${change.toFixed(2)} %`]);
    await expectAccessible(page);
  });

  test("a job of somebody else is followed by a page that is opened meanwhile", async () => {
    // The job may be over before a page is loaded: the first question finds it as it was at its beginning.
    const begin = async (route: Route) => {
      const begun = await fixture.post("/re_isq", { ggml_type: "Q4K", wait: false });
      await route.fulfill({ json: begun.body });
    };
    await page.route("**/re_isq", begin, { times: 1 });
    await page.reload();
    await eventually(() => text("#job")).toMatch(/^Now Q4K: 43 tensors changed/);
    await eventually(() => text("#state")).toMatch(/^tiny: Q4K/);
  });

  test("a job that fails says which layers kept their weights", async () => {
    await page.route("**/re_isq", (route) =>
      route.fulfill({
        json: {
          id: 9,
          kind: "re_isq",
          type: "Q8_0",
          status: "failed",
          progress: { done: 3, total: 43, layers_done: 0, layers: 6, tensor: null },
          report: null,
          error: { message: "2 layers could not be changed", code: "reisq/failed" },
          failures: [{ layer: 1 }, { layer: 4 }],
        },
      }),
    );
    await page.uncheck("#measure");
    await page.click("#quantize");
    await eventually(() => text("[role=alert]")).toBe(
      "2 layers could not be changed; these layers kept their weights: 1, 4",
    );
    await page.unroute("**/re_isq");
    await expectAccessible(page);
  });

  test("nothing but the server was asked, and nothing went wrong unseen", () => {
    const { origin } = new URL(fixture.url);
    expect(requests.filter((url) => !url.startsWith("data:") && new URL(url).origin !== origin)).toEqual([]);
    // Browsers write every refusal to their console: the key twice, loading, the long message, and no job yet.
    const unexpected = problems.filter((line) => !/status of (400|401|404|503)/.test(line));
    expect(unexpected).toEqual([]);
  });

  test("the policy forbids scripts, styles and connections from anywhere else", async () => {
    const { headers } = await fetch(fixture.url);
    const policy = headers.get("content-security-policy")!;
    expect(policy).toMatch(/default-src 'none'/);
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
    const broken = await page.evaluate(async () => {
      const seen: string[] = [];
      document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
      const script = document.createElement("script");
      try {
        script.text = "document.title = 'changed'";
      } catch {
        seen.push("text of a script");
      }
      await fetch("http://127.0.0.1:9/").catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 100));
      return [seen, document.title];
    });
    expect(broken[1]).toBe("isq");
    expect(broken[0]).toEqual(expect.arrayContaining(["text of a script", "connect-src"]));
  });
});
