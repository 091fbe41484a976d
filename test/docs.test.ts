/** The programs of docs/oracle.md are compiled and judged, and so is each with one mistake. */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { oracleMissing } from "./oracle/ggml.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const page = readFileSync(join(root, "docs/oracle.md"), "utf8");
const folder = mkdtempSync(join(tmpdir(), "isq-docs-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const blocksOf = (language: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map((match) => match[1]);

interface Example {
  readonly language: string;
  readonly options: readonly string[];
  /** Text of the program and what a mistaken author writes there. */
  readonly mistake: readonly [string, string];
  /** Makes a program of a source file; returns the command that runs it. */
  readonly build: (source: string) => Promise<string[]>;
  readonly tool: string;
}

async function ggmlFolder(): Promise<string> {
  const binaries: string = "@node-llama-cpp/linux-x64";
  const { getBinsDir } = (await import(binaries)) as { getBinsDir(): { binsDir: string } };
  return join(getBinsDir().binsDir, "linux-x64");
}

const EXAMPLES: readonly Example[] = [
  {
    language: "c",
    tool: "cc",
    options: ["--type", "Q4_0", "--format", "binary"],
    mistake: ["quantize_row_q4_0_ref(x, y, 256)", "quantize_row_q4_0_ref(x, y, 224)"],
    build: async (source) => {
      const libraries = await ggmlFolder();
      const linked = [
        `-L${libraries}`,
        `-Wl,-rpath,${libraries}`,
        "-lggml-base",
        "-Wl,--allow-shlib-undefined",
      ];
      execFileSync("cc", ["-Wall", "-Werror", source, "-o", `${source}.out`, ...linked]);
      return [`${source}.out`];
    },
  },
  {
    language: "python",
    tool: "python3",
    options: ["--operation", "decode", "--type", "Q8_0"],
    mistake: ["<e32b", "<e32B"],
    build: async (source) => ["python3", source],
  },
  {
    language: "rust",
    tool: "rustc",
    options: ["--operation", "decode", "--type", "Q8K", "--format", "binary"],
    mistake: ["(code as i8)", "code"],
    build: async (source) => {
      execFileSync("rustc", ["-O", source, "-o", `${source}.out`], { stdio: "pipe" });
      return [`${source}.out`];
    },
  },
];

const FILE_NAMES: Readonly<Record<string, string>> = {
  c: "subject.c",
  python: "subject.py",
  rust: "subject.rs",
};

/** Compilers are not part of the project: where one is missing, its example is only read. */
const here = (tool: string): boolean => spawnSync(tool, ["--version"]).status === 0;

function judge(options: readonly string[], command: readonly string[]) {
  const args = ["dist/cli/main.js", "vectors", "run", "--seed", "7", ...options, "--", ...command];
  return spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
}

test.each(EXAMPLES)("the $language program is one, of ten lines", ({ language }) => {
  const blocks = blocksOf(language);
  expect(blocks).toHaveLength(1);
  // Lines that only close a brace are free.
  const lines = blocks[0].split("\n").filter((line) => !/^[\s}]*$/.test(line));
  expect(lines.length).toBeLessThanOrEqual(10);
});

const RUNNABLE = EXAMPLES.filter(
  ({ language, tool }) => here(tool) && (language !== "c" || oracleMissing === undefined),
);

test.each(RUNNABLE)("the $language program passes, and fails with a mistake", async (example) => {
  const { language, options, mistake, build } = example;
  const [code] = blocksOf(language);
  const [right, wrong] = ["right", "wrong"].map((name) => join(folder, `${name}-${FILE_NAMES[language]}`));
  expect(code.split(mistake[0])).toHaveLength(2);
  writeFileSync(right, code);
  writeFileSync(wrong, code.replace(...mistake));
  const passed = judge(options, await build(right));
  expect(passed.stdout + passed.stderr).toMatch(/^PASS .*: 1000 identical, 0 different\n$/);
  const failed = judge(options, await build(wrong));
  expect(failed.stdout).toMatch(/^FAIL /);
  expect(failed.status).toBe(1);
});

const LLAMA_CPP = ["Q4K", "Q5_1", "Q6K --importance", "Q8_0"].filter(() => oracleMissing === undefined);

test.each(LLAMA_CPP)("the koffi example checks llama.cpp's encoder: %s", (type) => {
  const options = ["--type", ...type.split(" "), "--count", "500", "--format", "binary"];
  const { stdout, stderr } = judge(options, [process.execPath, "examples/check-llama-cpp.mjs"]);
  expect(stdout + stderr).toMatch(/^PASS .*: 500 identical, 0 different\n$/);
});

test.runIf(oracleMissing === undefined)("the koffi example says what it cannot check", () => {
  const { status, stdout } = judge(
    ["--type", "FP8", "--format", "binary"],
    [process.execPath, "examples/check-llama-cpp.mjs"],
  );
  expect(stdout).toMatch(/this program encodes Q4_0, Q4_1/);
  expect(status).toBe(1);
});
