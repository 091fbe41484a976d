/** The block viewer in a browser, by keyboard alone, and as a screen reader is told of it. */

import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chromiumMissing, dropFiles, openChromium } from "../../scripts/browser.mjs";
import { buildPage } from "../../scripts/build-pages.mjs";
import { wasm } from "../../src/backends/wasm.js";
import { toBytes } from "../../src/files/gguf-write.js";
import { openModel } from "../../src/load.js";
import { openDirectory } from "../../src/node/directory.js";
import { plan } from "../../src/plan.js";
import { dequantize } from "../../src/quants/index.js";
import { saveModel } from "../../src/save.js";
import { planFile } from "../../src/write-model.js";
import { toUqff } from "../uqff-support.js";
import { expectAccessible } from "./axe.js";

const SOURCE = "models/tiny-mistral/model.safetensors";
const GATE = "model.layers.0.mlp.gate_proj.weight";
const folder = mkdtempSync(join(tmpdir(), "isq-viewer-"));
const quantized = join(folder, "tiny.gguf");
const side = join(folder, "tiny.safetensors");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("the page in docs/ is what the sources make", async () => {
  expect(readFileSync("docs/viewer/index.html", "utf8")).toBe(await buildPage("viewer"));
});

describe("in a browser", () => {
  if (chromiumMissing !== undefined) {
    test.skip(`not opened: ${chromiumMissing}`, () => {});
    return;
  }
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];
  const requests: string[] = [];

  beforeAll(async () => {
    const model = await openModel(await openDirectory("models/tiny-mistral"));
    for (const [path, format, type] of [
      [quantized, "gguf", "Q4K"],
      [side, "safetensors", "HQQ4"],
    ] as const) {
      const decided = plan(model.program, model.sourceOf, { type });
      const file = planFile(format, model, decided);
      const sink = toBytes(file.byteLength);
      await saveModel(file, decided, model.checkpoint, await wasm(), sink);
      writeFileSync(path, sink.bytes);
    }
    const rules = [{ pattern: /layers\.0\.mlp\.up_proj/, isq: "HQQ8" }] as const;
    const request = { type: "Q6K", topology: rules, shardByteLength: 3_000_000 } as const;
    for (const [name, bytes] of Object.entries(await toUqff(model, request))) {
      writeFileSync(join(folder, name), bytes);
    }
    await model.checkpoint.close();
    writeFileSync(join(folder, "index.html"), readFileSync("docs/viewer/index.html"));
    browser = await openChromium();
    page = await browser.newPage();
    page.on("console", (message) => problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(`file://${folder}/index.html`); // alone in its folder: it needs nothing beside it
  });
  afterAll(() => browser?.close());

  const focused = () =>
    page.evaluate(() => {
      const { id, textContent, tagName } = document.activeElement as HTMLElement;
      return id || (tagName === "BUTTON" && textContent) || tagName;
    });
  const press = async (...keys: string[]) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  /** Presses Tab until something has the focus. */
  const tabTo = async (target: string) => {
    for (let i = 0; i < 12; i++) {
      if ((await focused()) === target) return;
      await press("Tab");
    }
    throw new Error(`the Tab key does not reach ${target}; it is at ${await focused()}`);
  };
  /** Opens the dialog of the focused file field with a key, and answers it. */
  const choose = async (path: string) => {
    for (let tries = 12; ; tries--) {
      const dialog = page.waitForEvent("filechooser", { timeout: 3_000 }).catch(() => null);
      await press("Enter");
      const chooser = await dialog;
      // A busy browser forgets that a key was pressed before it comes to open the dialog.
      if (!chooser && tries > 1) continue;
      if (!chooser) throw new Error("Enter opens no dialog");
      return chooser.setFiles(path);
    }
  };
  const text = (selector: string) => page.textContent(selector);

  test("the empty page is accessible, and nothing but the files' fields is reachable", async () => {
    await expectAccessible(page);
    await press("Tab");
    expect(await focused()).toBe("file");
    await press("Tab");
    expect(await focused()).toBe("source");
    await press("Tab");
    expect(await focused()).toBe("BODY");
  });

  test("files are chosen with keys; the list of tensors is there, and its heading has the focus", async () => {
    await tabTo("source");
    await choose(SOURCE);
    await page.waitForFunction(() => document.getElementById("status")?.textContent?.startsWith("source:"));
    await press("Shift+Tab");
    expect(await focused()).toBe("file");
    await choose(quantized);
    await page.waitForSelector("#tensors:not([hidden])");
    expect(await text("#status")).toMatch(/^tiny.gguf: 57 tensors, [\d,]+ bytes$/);
    expect(await focused()).toBe("tensors-title");
    const rows = await page.getByRole("row").allInnerTexts();
    expect(rows[0].split("\t")).toEqual(["name", "type", "shape", "bits per weight", "bytes"]);
    expect(rows).toContain(`${GATE}\tQ4K\t768 × 256\t4.500\t110,592`);
    await expectAccessible(page);
  });

  test("arrow keys go through the names, Enter opens one, and its errors are mapped", async () => {
    await tabTo("filter");
    await page.keyboard.type("layers.0.mlp");
    await tabTo(GATE);
    await press("ArrowDown");
    expect(await focused()).toMatch(/mlp.up_proj/);
    await press("End", "ArrowDown", "Home");
    expect(await focused()).toBe(GATE);
    await press("Enter");
    await page.waitForSelector("#unit:not([hidden])");
    expect(await focused()).toBe("tensor-title");
    expect(await text("#tensor-title")).toBe(GATE);
    expect(await page.locator(`button[data-tensor="${GATE}"]`).getAttribute("aria-current")).toBe("true");
    expect(await text("#map-summary")).toMatch(/^768 blocks; mean error 0\.00\d+, largest 0\.00\d+; a line/);
    const painted = await page.evaluate(() => {
      const canvas = document.getElementById("map") as HTMLCanvasElement;
      const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
      return new Set(
        Array.from({ length: data.length / 4 }, (_, i) => data.subarray(4 * i, 4 * i + 3).join()),
      ).size;
    });
    expect(painted).toBeGreaterThan(5);
    await expectAccessible(page);
  });

  test("the map is a slider: arrow keys move over the blocks, and each says what it is", async () => {
    await tabTo("map-frame");
    const slider = page.getByRole("slider", { name: "Error map" });
    expect(await slider.getAttribute("aria-valuemax")).toBe("767");
    await press("ArrowRight", "ArrowRight", "ArrowDown");
    await page.waitForFunction(() => document.getElementById("unit-title")?.textContent === "Block 30");
    expect(await slider.getAttribute("aria-valuenow")).toBe("30");
    expect(await slider.getAttribute("aria-valuetext")).toMatch(
      /^block 30, row 30, columns 0 to 255, error 0\.00/,
    );
    await press("ArrowUp", "Home");
    await page.waitForFunction(() => document.getElementById("unit-title")?.textContent === "Block 0");
    await press("ArrowLeft", "ArrowUp");
    expect(await slider.getAttribute("aria-valuenow")).toBe("0");
  });

  test("a block in full: scales, codes, decoded values and errors that are those of the file", async () => {
    await tabTo("unit-number");
    await press("Control+a");
    await page.keyboard.type("500");
    await press("Enter");
    await page.waitForFunction(() => document.getElementById("unit-title")?.textContent === "Block 500");
    await expect.poll(() => text("#unit-place")).toMatch(/^row 500, columns 0 to 255, error/);
    const tableOf = async (caption: string) =>
      (await page.getByRole("table", { name: caption }).getByRole("row").allInnerTexts()).map((row) =>
        row.split("\t"),
      );
    expect((await tableOf("Scales of the whole block")).map(([name]) => name)).toEqual([
      "scale",
      "d",
      "dmin",
    ]);
    expect(await tableOf("Scales of the sub-blocks")).toHaveLength(9);
    const [head, ...rows] = await tableOf("Elements");
    expect(head).toEqual(["element", "code, stored", "code", "decoded", "source", "error"]);
    const decoded = await decodeRow(500);
    expect(rows.map(([, , , value]) => Math.fround(Number(value)))).toEqual([...decoded]);
    for (const [index, , , value, source, error] of rows) {
      expect(Number(index)).toBeGreaterThanOrEqual(500 * 256);
      expect(Number(value) - Number(source)).toBeCloseTo(Number(error), 4);
    }
    await tabTo("next");
    await press("Enter");
    await page.waitForFunction(() => document.getElementById("unit-title")?.textContent === "Block 501");
    await expectAccessible(page);
  });

  test("the worst blocks are buttons; relative errors can be shown", async () => {
    await page.locator("#measure").focus();
    await press("ArrowDown");
    await page.waitForFunction(() =>
      document.getElementById("map-summary")?.textContent?.includes("mean error 0.0"),
    );
    const worst = page
      .getByRole("table", { name: "The 10 blocks with the largest errors" })
      .getByRole("button");
    expect(await worst.count()).toBe(10);
    await worst.first().focus();
    const name = (await worst.first().textContent()) as string;
    await press("Enter");
    await page.waitForFunction(() => document.activeElement?.id === "unit-title");
    expect((await text("#unit-title"))?.toLowerCase()).toBe(name);
  });

  test("safetensors files that isq wrote, with scales that lie apart", async () => {
    await page.setInputFiles("#file", side);
    await page.waitForFunction(() =>
      document.getElementById("status")?.textContent?.startsWith("tiny.safetensors"),
    );
    await page.locator(`button[data-tensor="${GATE}"]`).press("Enter");
    await page.waitForFunction(() => document.getElementById("unit-title")?.textContent === "Group 0");
    expect(await text("#tensor-facts")).toContain("HQQ4, mistralrs");
    expect(await text("#map-summary")).toMatch(/^3072 groups; mean error 0\.0/);
  });

  test("a UQFF set: shards chosen together are one model; without the other tensors it says so", async () => {
    const set = ["m-1.uqff", "m-0.uqff"].map((name) => join(folder, name));
    await page.setInputFiles("#file", [...set, join(folder, "residual.safetensors")]);
    await page.waitForFunction(() => document.getElementById("status")?.textContent?.startsWith("m-0.uqff"));
    expect(await text("#status")).toMatch(/^m-0.uqff: 57 tensors, [\d,]+ bytes; \d+ layers of UQFF 1\.2\.0/);
    await page.locator(`button[data-tensor="${GATE}"]`).press("Enter");
    await page.waitForFunction(() => document.getElementById("unit-title")?.textContent === "Block 0");
    expect(await text("#tensor-facts")).toContain("Q6K");
    expect(await text("#map-summary")).toMatch(/^768 blocks; mean error 0\.0\d+/);
    await page.locator(`button[data-tensor="${GATE.replace("gate", "up")}"]`).press("Enter");
    await page.waitForFunction(() => document.getElementById("unit-title")?.textContent === "Group 0");
    expect(await text("#tensor-facts")).toContain("HQQ8"); // the format does not name encoders
    expect(await text("#map-summary")).toMatch(/^3072 groups; mean error 0\.0\d+/);
    await expectAccessible(page);
    await page.setInputFiles("#file", set[1]);
    await expect.poll(() => text("#status")).toMatch(/in 1 shard; choose residual\.safetensors as well/);
  });

  test("a file that is damaged, and one of no known kind, are refused in a sentence that is announced", async () => {
    const alert = page.getByRole("alert");
    await page.setInputFiles("#file", {
      name: "cut.gguf",
      mimeType: "",
      buffer: readFileSync(quantized).subarray(0, 500),
    });
    await expect.poll(() => alert.textContent()).toMatch(/cut\.gguf/);
    await page.setInputFiles("#file", { name: "notes.txt", mimeType: "", buffer: Buffer.from("hello") });
    await expect.poll(() => alert.textContent()).toMatch(/notes\.txt has none of the endings \.gguf/);
    await expectAccessible(page);
  });

  test("files can be dropped, the second is the source", async () => {
    const [file, source] = [join(folder, "dropped.gguf"), join(folder, "source.safetensors")];
    copyFileSync(quantized, file);
    copyFileSync(SOURCE, source);
    await dropFiles(page, [file, source]);
    await expect.poll(() => text("#status")).toMatch(/^source: source.safetensors/);
    expect(await page.locator("#tensor-table button").count()).toBeGreaterThan(0);
  });

  test("nothing was sent or fetched, and nothing went wrong unseen", () => {
    expect(requests.filter((url) => !url.startsWith("data:"))).toEqual([`file://${folder}/index.html`]);
    expect(problems).toEqual([]);
  });
});

async function decodeRow(row: number): Promise<Float32Array> {
  const { checkpoint } = await openModel(await openDirectory(folder), { gguf: "tiny.gguf" });
  const data = await checkpoint.readRange(GATE, 144 * row, 144 * (row + 1));
  await checkpoint.close();
  return dequantize({ type: "Q4K", algorithm: "ggml", shape: [256], data });
}
