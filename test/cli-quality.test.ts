/** Commands that measure and collect, as a user runs them. */

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { fromBytes, openImatrix } from "../src/index.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "isq-quality-"));
const MODEL = ["-m", "models/tiny-mistral"];
const CALIBRATION = "models/text/calibration.txt";

function isq(...args: string[]) {
  const options = { cwd: root, encoding: "utf8" } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, ["dist/cli/main.js", ...args], options);
  return { status, stdout, stderr };
}

describe("imatrix", () => {
  const few = ["-f", CALIBRATION, "--chunk-tokens", "24", "--chunks", "2", ...MODEL];

  test("writes a file that plan, run and quantize take", async () => {
    const path = join(folder, "few.gguf");
    const { status, stdout, stderr } = isq("imatrix", ...few, "-o", path);
    expect(status).toBe(0);
    expect(stdout).toMatch(/few\.gguf: \d+ bytes, 43 weights, 2 chunks of 24 tokens/);
    expect(stderr).toMatch(/chunk 2\/2: 50 tokens/);
    const matrix = await openImatrix(fromBytes(new Uint8Array(readFileSync(path))));
    expect(matrix).toMatchObject({ datasets: ["calibration.txt"], chunks: 2, chunkTokens: 24 });
    expect(matrix.entries.get("output.weight")?.counts).toEqual([50]);
    const plan = isq("plan", "--isq", "Q2K", "--imatrix", path, "plain", ...MODEL);
    expect(plan.stdout.match(/ used /g)).toHaveLength(43);
    expect(isq("imatrix", ...few, "-o", path)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/--force/),
    });
  });

  test.each([
    ["an ending that says nothing", ["-o", join(folder, "x.bin")], /\.cimatrix or \.gguf or \.imatrix/],
    ["a folder that is not there", ["-o", join(folder, "no", "x.gguf")], /cannot write/],
    ["a text that is not there", ["-o", join(folder, "x.gguf"), "-f", "no/such.txt"], /cannot open no\/such/],
  ])("refuses %s before it loads anything", (_what, args, message) => {
    const { status, stderr } = isq("imatrix", ...few, ...args);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
    expect(stderr).not.toContain("loading");
    expect(existsSync(join(folder, "x.gguf"))).toBe(false);
  });
});

test("--calibration-file collects and quantizes in one go, and excludes --imatrix", () => {
  const text = join(folder, "text.txt");
  writeFileSync(text, readFileSync(CALIBRATION, "utf8").slice(0, 200));
  const run = ["run", "--isq", "Q3K", "--calibration-file", text, "-p", "The", "-n", "2", "plain", ...MODEL];
  const { status, stderr } = isq(...run);
  expect(status).toBe(0);
  expect(stderr).toMatch(/calibrating: 1\/1/);
  expect(stderr).toMatch(/quantizing: 43\/43/);
  const both = isq("plan", "--imatrix", "x.gguf", ...run.slice(1, 5), "plain", ...MODEL);
  expect(both).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/'--imatrix <file>' cannot be used with option '--calibration-file/),
  });
  const planned = isq("plan", ...run.slice(1, 5), "plain", ...MODEL);
  expect(planned.stdout.match(/ used /g)).toHaveLength(43);
});

describe("measures", () => {
  const text = ["-f", "models/text/eval.txt", "--chunk-tokens", "16", "--chunks", "2"];
  const form = ["plain", ...MODEL];
  const page = (name: string) => {
    const html = readFileSync(join(folder, name), "utf8");
    expect(html).toMatch(/^<!doctype html>/);
    expect(html).not.toMatch(/(src|href)=|<script|@import|url\(/); // nothing is fetched, nothing runs
    expect(html).not.toMatch(/NaN|undefined/);
    return html;
  };

  test("perplexity of several types, with a stride: table, JSON and page", () => {
    const path = join(folder, "perplexity.html");
    const args = ["perplexity", ...text, "--stride", "8", "--isq", "Q8_0,FP8", "--html", path];
    const { stdout } = isq(...args, ...form);
    expect(stdout).toMatch(/eval\.txt, chunks of 16 tokens, 8 from one to the next; on /);
    expect(stdout.match(/^(Q8_0|FP8) .* 24$/gm)).toHaveLength(2);
    const html = page("perplexity.html");
    expect(html.match(/<svg/g)).toHaveLength(2);
    expect(html).toContain("FP8 chunk 1");
    const json = JSON.parse(isq(...args.slice(0, -2), "--json", ...form).stdout);
    expect(json).toMatchObject({ text: "eval.txt", chunkTokens: 16, stride: 8 });
    expect(json.versions[0].tokenWeighted.toFixed(4)).toBe(/^Q8_0 +[\d.]+ +([\d.]+)/m.exec(stdout)![1]);
    expect(isq("perplexity", ...text, "--stride", "17", ...form)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/stride must be a whole number of tokens from 1 to 16/),
    });
  });

  test("kld holds each type against the unquantized model", () => {
    const args = ["kld", ...text, "--isq", "Q2K,Q8_0", "--html", join(folder, "kld.html"), "--json", ...form];
    const { versions } = JSON.parse(isq(...args).stdout);
    const [bad, good] = versions;
    expect([bad.type, good.type, bad.predictions]).toEqual(["Q2K", "Q8_0", 32]);
    for (const { median, p99, p999, max, percentiles } of versions) {
      expect(median).toBeLessThanOrEqual(p99);
      expect(p99).toBeLessThanOrEqual(p999);
      expect(p999).toBeLessThanOrEqual(max);
      expect(percentiles).toHaveLength(101);
      expect([percentiles[50], percentiles[99], percentiles[100]]).toEqual([median, p99, max]);
    }
    expect(good.mean).toBeLessThan(bad.mean / 10);
    expect(good.sameTop).toBeGreaterThan(bad.sameTop);
    expect(good.reference).toEqual(bad.reference);
    expect(page("kld.html").match(/<svg/g)).toHaveLength(3);
    const nothing = isq("kld", ...text, ...form);
    expect(nothing).toMatchObject({ status: 2, stderr: expect.stringMatching(/nothing to compare/) });
  });

  test("errors of every tensor, by importance too", () => {
    const calibration = join(folder, "short.txt");
    writeFileSync(calibration, readFileSync(CALIBRATION, "utf8").slice(0, 100));
    const args = ["errors", "--isq", "Q3K,FP8", "--calibration-file", calibration];
    const { status, stdout } = isq(...args, "--html", join(folder, "errors.html"), ...form);
    expect(status).toBe(0);
    expect(stdout.match(/^lm_head\.weight /gm)).toHaveLength(2);
    expect(stdout).toMatch(/by importance/);
    expect(stdout).toMatch(/^lm_head\.weight +FP8 +dropped/m);
    expect(page("errors.html").match(/<tr>/g)).toHaveLength(2 * 44);
  });

  test("sensitivity proposes a topology that the other commands take", () => {
    const [path, html] = ["proposed.yml", "sensitivity.html"].map((name) => join(folder, name));
    const target = ["--target-bits", "5", "-o", path, "--html", html];
    const short = ["-f", "models/text/eval.txt", "--chunk-tokens", "6"];
    const { status, stdout } = isq("sensitivity", ...short, "--isq", "Q2K,Q4K", ...target, ...form);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^proposed mix +4\.9\d+ /m);
    page("sensitivity.html");
    const plan = isq("plan", "--topology", path, ...form).stdout;
    expect(plan).toMatch(/43 of 57 tensors quantized; .*; 4\.9\d+ bits per weight/);
    const refused = isq("sensitivity", ...short, "--target-bits", "2", ...form);
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringMatching(/cannot be reached.*4\.6882/) });
    expect(isq("sensitivity", ...short, "-o", path, ...form).status).toBe(2);
  });
});
