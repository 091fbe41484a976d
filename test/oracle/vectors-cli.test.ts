/** `isq vectors` as its users run it: pipes, programs that misbehave, and mistakes planted in an encoder. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MUTANTS } from "../../src/vectors/mutants.js";
import { copyQuants, type QuantsCopy } from "./mutant-copy.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const SUBJECT = "test/oracle/subject.mjs";

function isq(...args: string[]) {
  const started = performance.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, ["dist/cli/main.js", "vectors", ...args], {
    cwd: root,
    encoding: "utf8",
  });
  return { status, stdout, stderr, seconds: (performance.now() - started) / 1000 };
}

const pipe = (line: string) =>
  spawnSync("bash", ["-o", "pipefail", "-c", line], { cwd: root, encoding: "utf8" });
const ISQ = "node dist/cli/main.js vectors";

describe("through a pipe", () => {
  test.each([
    "--type Q4_0",
    "--type q6_k --importance",
    "--type Q5K --algorithm mistralrs",
    "--type Q8K --operation dot",
  ])("the reference agrees with itself: %s", (options) => {
    const { status, stdout } = pipe(
      `${ISQ} gen ${options} --seed 7 --count 200 | node ${SUBJECT} dist/quants | ${ISQ} check`,
    );
    expect(stdout).toMatch(/^PASS .* seed 7, 256 columns: 200 identical, 0 different\n$/);
    expect(status).toBe(0);
  });

  test("a subject that dies is judged by what arrived", () => {
    const { status, stdout } = pipe(
      `${ISQ} gen --type Q4_0 | node ${SUBJECT} dist/quants stop 5 | ${ISQ} check; exit $?`,
    );
    expect(stdout).toMatch(/^FAIL .*5 identical, 0 different, 995 missing\n {2}5 of 1000 answers arrived/);
    expect(status).toBe(1);
  });

  test("a silent one is not waited for", () => {
    const { stdout, status } = pipe(`${ISQ} check --silence 0.5 < <(exec sleep 60 2>&-)`);
    expect(stdout).toMatch(/nothing arrived for 0.5 s/);
    expect(status).toBe(1);
  });

  test("gen ends quietly when its reader does", () => {
    const { stdout, stderr } = pipe(`${ISQ} gen --type Q4K --count 100000 | head -c 20`);
    expect(stdout).toBe('{"format":"isq-vecto');
    expect(stderr).toBe("");
  });

  test("bad options are one sentence and exit code 2", () => {
    for (const options of [
      ["--type", "Q9"],
      ["--type", "Q8_0", "--importance"],
      ["--type", "Q4K", "--columns", "3"],
      [],
    ]) {
      const { status, stdout, stderr } = isq("gen", ...options);
      expect([status, stdout]).toEqual([2, ""]);
      expect(stderr).not.toMatch(/\n\s+at /);
    }
  });
});

describe("run", () => {
  const run = (...args: string[]) => isq("run", "--type", "Q4_0", "--count", "50", ...args);
  /** Seconds; a subject has to start in them, on a busy machine too. */
  const SILENCE: Readonly<Record<string, string>> = {
    hangs: "10",
    "prints nothing and stays": "1",
    "leaves a child with its pipe": "1",
  };
  const subject = (...fault: string[]) => ["--", process.execPath, SUBJECT, "dist/quants", ...fault];

  test("passes a right subject", () => {
    expect(run(...subject())).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^PASS .*: 50 identical/),
    });
  });

  test.each<[string, string[], RegExp]>([
    ["crashes", subject("crash", "20"), /20 identical.*30 missing[\s\S]*ended by SIGSEGV/],
    [
      "hangs",
      subject("hang", "20"),
      /20 identical.*30 missing[\s\S]*nothing arrived for 10 s after 20 answers/,
    ],
    ["ends early", subject("stop", "20"), /20 of 50 answers arrived/],
    ["fails", subject("fail", "20"), /exit code 3[\s\S]*standard error ends: out of scratch space/],
    ["prints garbage", subject("garbage", "20"), /49 identical.*1 garbled[\s\S]*case 20 .*not JSON/],
    ["echoes the questions", ["--", "cat"], /50 garbled[\s\S]*the line has no answer/],
    ["prints without end", ["--", "yes"], /header cannot be used/],
    ["prints nothing and stays", ["--", "sleep", "100"], /nothing arrived for 1 s after 0 answers/],
    ["leaves a child with its pipe", ["--", "bash", "-c", "sleep 100 & exit 4"], /nothing arrived/],
    ["cannot be run", ["--", "./no-such-program"], /could not be run: .*ENOENT/],
  ])("a subject that %s is judged", (what, command, says) => {
    const { status, stdout, stderr, seconds } = run("--silence", SILENCE[what] ?? "60", ...command);
    expect([status, stderr]).toEqual([1, ""]);
    expect(stdout).toMatch(/^FAIL /);
    expect(stdout).toMatch(says);
    expect(seconds).toBeLessThan(90);
  });

  test("--json is the verdict", () => {
    const verdict = JSON.parse(run("--json", ...subject("garbage", "3")).stdout);
    expect(verdict).toMatchObject({
      ok: false,
      identical: 49,
      garbled: 1,
      spec: { type: "Q4_0", count: 50 },
    });
  });

  test("binary records reach a subject as they are", () => {
    const program = `
      const { quantize } = await import("./dist/quants/index.js");
      const all = Buffer.concat(await process.stdin.toArray());
      process.stdout.write(all.subarray(0, 64));
      for (let at = 64; at < all.length; at += 1024) {
        const values = new Float32Array(all.buffer.slice(all.byteOffset + at, all.byteOffset + at + 1024));
        process.stdout.write(quantize("Q4_0", values, { shape: [256] }).data);
      }`;
    const { stdout } = run(
      "--format",
      "binary",
      "--",
      process.execPath,
      "--input-type=module",
      "-e",
      program,
    );
    expect(stdout).toMatch(/^PASS .*50 identical/);
  });
});

describe("mistakes planted in an encoder are found", () => {
  let copy: QuantsCopy;
  beforeAll(() => {
    copy = copyQuants();
  });
  afterAll(() => copy.remove());

  test.each([
    ["ties away from zero, ggml", "Q4K"],
    ["reciprocal instead of division, recode", "Q2K"],
    ["fused multiply-add in the error", "Q5K"],
    ["last of equal maxima wins", "Q4_0"],
    ["high bit order, Q5", "Q5_1"],
    ["max / 128 instead of 1 / iscale, Q6K", "Q6K"],
  ])("%s, %s", (name, type) => {
    const mutant = MUTANTS.find((candidate) => candidate.name === name);
    if (!mutant) throw new Error(`no mutant ${name}`);
    copy.plant(mutant);
    const { status, stdout } = isq(
      "run",
      "--type",
      type,
      "--seed",
      "7",
      "--count",
      "1000",
      "--",
      process.execPath,
      SUBJECT,
      copy.folder,
    );
    copy.restore(mutant);
    expect(stdout).toMatch(/^FAIL /);
    expect(stdout).toMatch(/case \d+ \(.*\): block 0/);
    expect(status).toBe(1);
    console.log(`${name}: ${stdout.split("\n")[0]}`);
  });

  test("and the copy without any passes", () => {
    const { stdout } = isq(
      "run",
      "--type",
      "Q5_1",
      "--seed",
      "7",
      "--",
      process.execPath,
      SUBJECT,
      copy.folder,
    );
    expect(stdout).toMatch(/^PASS .* 1000 identical/);
  });
});
