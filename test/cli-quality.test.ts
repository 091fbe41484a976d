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
  expect(both).toMatchObject({ status: 2, stderr: expect.stringMatching(/given or collected/) });
  const planned = isq("plan", ...run.slice(1, 5), "plain", ...MODEL);
  expect(planned.stdout.match(/ used /g)).toHaveLength(43);
});
