/** The package as npm packs it, installed into an empty project; every snippet of the README and docs/ runs from there. */

import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { haveGpu } from "./gpu.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "isq-packed-"));
const project = join(folder, "project");
const env = { ...process.env, PATH: `${join(project, "node_modules/.bin")}:${process.env["PATH"]}` };
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PAGES = ["README.md", ...readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"))].map(
  (name) => (name === "README.md" ? name : `docs/${name}`),
);

/** What a page leaves to its reader. */
const PRELUDES: Readonly<Record<string, string>> = {
  "docs/oracle.md": `
    import assert from "node:assert";
    import { quantize } from "isq/quants";
    const yourEncoder = (type, algorithm, shape, values, importance) =>
      quantize(type, values, {
        shape,
        algorithm,
        ...(!values.every(Number.isFinite) && { nonFinite: "raw" }),
        ...(importance && { importance }),
      }).data;
    let compared = 0;
    const compare = (id, actual, expected) => assert.deepEqual([...actual], [...expected], id) ?? compared++;
    process.on("exit", () => console.log(compared));`,
};

/** Blocks that do not run here, and why. */
const ELSEWHERE: readonly (readonly [RegExp, string])[] = [
  [/^npm ci/m, "the repository's own commands; their scripts are looked up"],
  [/your-encoder|examples\/check-llama-cpp/, "programs of the reader; docs.test.ts runs such"],
  [/Q4_K_M\.gguf|https:\/\/host|RESULT_FOLDER/, "files and machines that only the reader has"],
  [/^export /m, "a function for pages; it is called below"],
  [/^isq sensitivity/m, "a minute of measuring; cli-quality.test.ts runs the command"],
  [/\bcurl\b|^npm install/m, "needs other programs"],
];
const reasonOf = (code: string) => ELSEWHERE.find(([pattern]) => pattern.test(code))?.[1];

interface Snippet {
  readonly page: string;
  readonly line: number;
  readonly language: string;
  readonly code: string;
}

const SNIPPETS: readonly Snippet[] = PAGES.flatMap((page) => {
  const text = readFileSync(join(root, page), "utf8");
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(({ index, 1: language, 2: code }) => ({
    page,
    line: text.slice(0, index).split("\n").length,
    language,
    code,
  }));
});
const written = (language: string) =>
  SNIPPETS.filter((one) => one.language === language && reasonOf(one.code) === undefined).map(
    (one) => [`${one.page}:${one.line}`, one] as const,
  );

beforeAll(() => {
  const npm = (args: string[], cwd: string) =>
    execFileSync("npm", [...args, "--silent", "--no-audit", "--no-fund"], { cwd, encoding: "utf8" });
  const name = npm(["pack", "--pack-destination", folder], root).trim();
  execFileSync("mkdir", [project]);
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  npm(["install", "--prefer-offline", "--ignore-scripts", join(folder, name)], project);
  // What the reader has beside the package: models, rules, and the GPU package that docs/webgpu.md asks for.
  symlinkSync(join(root, "models"), join(project, "models"));
  symlinkSync(join(root, "node_modules/webgpu"), join(project, "node_modules/webgpu"));
  const yaml = SNIPPETS.find(({ page, language }) => page === "docs/topology.md" && language === "yaml");
  writeFileSync(join(project, "topology.yml"), yaml!.code);
});

test("the installed package is small, and brings no tools of ours", () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const lock = JSON.parse(readFileSync(join(project, "package-lock.json"), "utf8"));
  expect(Object.keys(lock.packages)).toEqual(
    expect.arrayContaining(Object.keys(dependencies).map((name) => `node_modules/${name}`)),
  );
  for (const tool of ["vitest", "typescript", "assemblyscript", "typedoc", "playwright-core"]) {
    expect(Object.keys(lock.packages)).not.toContain(`node_modules/${tool}`);
  }
  const files = readdirSync(join(project, "node_modules/isq"));
  expect(files.sort()).toEqual(["CHANGELOG.md", "LICENSE", "README.md", "dist", "package.json"]);
});

test("types: a program in TypeScript compiles against the package", () => {
  writeFileSync(
    join(project, "typed.ts"),
    `import { TextModelBuilder, type Plan } from "isq";
import { quantize } from "isq/quants";
export const plan: Promise<Plan> = new TextModelBuilder("x").withIsq("Q4K").plan();
// @ts-expect-error shapes are lists
quantize("Q4K", new Float32Array(256), { shape: 256 });
`,
  );
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"];
  const { stdout } = spawnSync(process.execPath, [tsc, ...options, "typed.ts"], {
    cwd: project,
    encoding: "utf8",
  });
  expect(stdout).toBe("");
});

describe("js", () => {
  test.for(written("js"))("%s", ([, { page, line, code }], { skip }) => {
    if (/isq\/webgpu|webgpu\(/.test(code) && !haveGpu()) skip("a software GPU is missing");
    const file = join(project, `${page.replace(/\W/g, "-")}-${line}.mjs`);
    writeFileSync(file, `${PRELUDES[page] ?? ""}\n${code}`);
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], {
      cwd: project,
      encoding: "utf8",
      env: { ...env, ...process.env, PATH: env.PATH },
    });
    expect(status, stderr).toBe(0);
    expect(stdout).not.toBe("");
  });

  test("docs/browser.md's function, with Blobs as a page has them", async () => {
    const { code } = SNIPPETS.find(
      ({ page, code }) => page === "docs/browser.md" && code.includes("export "),
    )!;
    writeFileSync(
      join(project, "page.mjs"),
      `${code}
import { openAsBlob } from "node:fs";
const names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
const files = await Promise.all(
  names.map(async (name) => Object.assign(await openAsBlob("models/tiny-mistral/" + name), { name })),
);
console.log(await run(files, "The river"));`,
    );
    const { status, stdout, stderr } = spawnSync(process.execPath, ["page.mjs"], {
      cwd: project,
      encoding: "utf8",
    });
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/^safetensors \d+ tensors\n.+\n/);
  });
});

/** Starts a server's line and waits until its model takes requests. */
async function startServer(line: string): Promise<ChildProcess> {
  const port = /--port (\d+)/.exec(line)?.[1] ?? "1234";
  const server = spawn("bash", ["-c", `exec ${line}`], { cwd: project, env, stdio: "ignore" });
  let failed = false;
  server.on("exit", () => {
    failed = true;
  });
  while (!failed) {
    const response = await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined);
    if (response?.ok) return server;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`it ended at once: ${line}`);
}

describe("sh", () => {
  test.each(written("sh"))("%s", async (_, { code }) => {
    const commands = code
      .replace(/\\\n/g, " ")
      .split("\n")
      .filter((line) => line.trim() !== "");
    let server: ChildProcess | undefined;
    for (const line of commands) {
      if (/^isq serve\b/.test(line)) {
        server = await startServer(line);
        continue;
      }
      const { status, stdout, stderr } = spawnSync("bash", ["-euo", "pipefail", "-c", line], {
        cwd: project,
        encoding: "utf8",
        env,
      });
      expect(status, `${line}\n${stderr}`).toBe(0);
      if (!/^mkdir\b/.test(line)) expect(stdout + stderr, line).not.toBe("");
    }
    if (!server) return;
    const ended = new Promise((resolve) => server.on("exit", resolve));
    server.kill("SIGTERM");
    expect(await ended).toBe(0);
  });
});

describe("what does not run here", () => {
  test("every reason has a block, and nothing of the README but the repository's own commands", () => {
    const left = SNIPPETS.filter(({ language, code }) => /^(js|sh)$/.test(language) && reasonOf(code));
    const README = left.filter(({ page }) => page === "README.md");
    expect(new Set(README.map(({ code }) => reasonOf(code)))).toEqual(new Set([ELSEWHERE[0][1]]));
    for (const { code } of README) {
      const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
      for (const [, name] of code.matchAll(/npm run (\S+)/g)) expect(Object.keys(scripts)).toContain(name);
    }
  });

  test("links between pages lead somewhere", () => {
    for (const page of PAGES) {
      const text = readFileSync(join(root, page), "utf8");
      for (const [, link] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
        const target = new URL(link, `file://${root}${page}`);
        expect(() => readdirSync(new URL(".", target)), `${page}: ${link}`).not.toThrow();
        expect(readdirSync(new URL(".", target)), page).toContain(link.split("/").at(-1));
      }
    }
  });
});
