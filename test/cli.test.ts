/** The command as a user runs it: the built file in a process of its own. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { TYPE_NAMES } from "../src/quants/table.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const MODEL = ["plain", "-m", "models/tiny-mistral", "-a", "mistral"];

function isq(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["dist/cli/main.js", ...args], {
    cwd: root,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

describe("bad input is one clear sentence and exit code 2", () => {
  test("an unknown type lists all names", () => {
    const { status, stderr, stdout } = isq("plan", "--isq", "q9", ...MODEL);
    expect([status, stdout]).toEqual([2, ""]);
    for (const name of TYPE_NAMES) expect(stderr).toContain(name);
  });

  test.each([
    ["a folder that is not there", ["plan", "plain", "-m", "no/such/folder"], /cannot open no\/such\/folder/],
    ["a file instead of a folder", ["plan", "plain", "-m", "package.json"], /a model is a folder/],
    [
      "an unknown architecture",
      ["plan", "plain", "-m", "models/tiny-mistral", "-a", "nope"],
      /llama, mistral/,
    ],
    ["an unknown algorithm", ["plan", "--algorithm", "other", ...MODEL], /default, mistralrs/],
    ["an unknown organization", ["plan", "--organization", "experts", ...MODEL], /default, moqe/],
    ["moqe of a dense model", ["plan", "--organization", "moqe", "--isq", "Q4K", ...MODEL], /has none/],
    ["a missing text", ["perplexity", "-f", "no/such.txt", ...MODEL], /cannot read no\/such\.txt/],
    ["a count that is none", ["run", "-p", "x", "-n", "many", ...MODEL], /whole number/],
    ["no model form", ["plan"], /plain/],
    ["an unknown command", ["dance"], /dance/],
  ])("%s", (_what, args, message) => {
    const { status, stderr } = isq(...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test("text that is not UTF-8", () => {
    const file = join(mkdtempSync(join(tmpdir(), "isq-")), "text.txt");
    writeFileSync(file, Uint8Array.of(0xff, 0xfe, 0x00));
    const { status, stderr } = isq("perplexity", "-f", file, ...MODEL);
    expect(status).toBe(2);
    expect(stderr).toContain("not UTF-8");
  });
});

describe("plan", () => {
  test("--organization moqe leaves all but the experts as they are", () => {
    const { status, stdout } = isq(
      ...["plan", "--isq", "q4_k", "--organization", "moqe", "--json", "plain", "-m", "models/tiny-mixtral"],
    );
    expect(status).toBe(0);
    const { rows } = JSON.parse(stdout) as { rows: { tensor: string; type: string }[] };
    for (const { tensor, type } of rows) expect(type).toBe(/\.experts\.\d\./.test(tensor) ? "Q4K" : "BF16");
  });

  test("prints a row per tensor with the reason, and totals", () => {
    const { status, stdout } = isq("plan", "--isq", "q4_k", ...MODEL);
    expect(status).toBe(0);
    expect(stdout).toMatch(/lm_head\.weight .* Q4K/);
    expect(stdout).toContain("norms are never quantized");
    expect(stdout).toMatch(/43 of 57 tensors quantized/);
  });

  test("--topology gives rules, and says which decide nothing", () => {
    const file = join(mkdtempSync(join(tmpdir(), "isq-")), "rules.yml");
    writeFileSync(file, "0-2: {isq: Q6K}\n/nowhere/: {isq: Q8_0}\n/embed/: {isq: Q8_0}\n");
    const { status, stdout } = isq("plan", "--topology", file, ...MODEL);
    expect(status).toBe(0);
    expect(stdout).toMatch(/model\.embed_tokens\.weight .* Q8_0/);
    expect(stdout).toContain("topology rule 2 decides for no tensor");
    writeFileSync(file, "0-99: {isq: Q6K}\n");
    const beyond = isq("plan", "--topology", file, ...MODEL);
    expect(beyond).toMatchObject({ status: 2, stderr: expect.stringContaining("layers 0-99") });
  });

  test("--imatrix gives importance to the tensors it names, and malformed ones are refused", () => {
    const path = (name: string) => `test/malformed/imatrix/${name}`;
    const { status, stdout } = isq("plan", "--isq", "Q4K", "--imatrix", path("i3-width.gguf"), ...MODEL);
    expect(status).toBe(0);
    expect(stdout).toMatch(/layers\.0\.self_attn\.q_proj\.weight .* dropped .* 3 values for/);
    const cut = isq("plan", "--isq", "Q4K", "--imatrix", path("i9-half-text.imatrix"), ...MODEL);
    expect(cut).toMatchObject({ status: 2, stderr: expect.stringContaining("i9-half-text.imatrix") });
  });

  test("--json is the plan itself", () => {
    const plan = JSON.parse(isq("plan", "--isq", "FP8", "--json", ...MODEL).stdout);
    expect(plan.requested).toBe("FP8");
    expect(plan.rows).toHaveLength(57);
  });
});

describe("run and perplexity", () => {
  test("run continues the prompt and says how fast", () => {
    const { status, stdout, stderr } = isq(
      "run",
      "--isq",
      "Q8_0",
      "-p",
      "The database connection",
      "-n",
      "8",
      ...MODEL,
    );
    expect(status).toBe(0);
    expect(stdout.trim()).toBe("is not\ninvoked by the");
    expect(stderr).toMatch(/quantizing: 57\/57/);
    expect(stderr).toMatch(/8 tokens in/);
  });

  test("perplexity prints both statistics", () => {
    const args = ["perplexity", "-f", "models/text/eval.txt", "--chunk-tokens", "32", "--chunks", "2"];
    const { status, stdout, stderr } = isq(...args, "--isq", "Q8_0", ...MODEL);
    expect(status).toBe(0);
    expect(stdout).toMatch(/token-weighted +± standard error +mean of chunks +± spread/);
    expect(stdout).toMatch(/^Q8_0( +[\d.]+){5} +64$/m);
    expect(stderr).toMatch(/chunk 2\/2/);
  });
});

test("who reads the output may be gone", () => {
  const script = `"${process.execPath}" dist/cli/main.js plan plain -m models/tiny-mistral | true`;
  const { status, stderr } = spawnSync("bash", ["-c", script], { cwd: root, encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
});
