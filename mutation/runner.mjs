// A test runner for Stryker that keeps everything in one process: test files are imported once, and a mutant costs what its
// tests cost. Starting a test framework for each of thousands of mutants would take days.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { declareClassPlugin, PluginKind } from "@stryker-mutator/api/plugin";
import ts from "typescript";

/** A test that needs more processor time than this in the dry run is left out. */
const MAX_TEST_MS = Number(process.env.ISQ_MUTATION_TEST_MS ?? 1500);
const SOURCES = ["src", "test", "mutation"];
const READY = ".compiled";

class InProcessRunner {
  capabilities() {
    return { reloadEnvironment: false };
  }

  async init() {
    compileSandbox();
    // What runs here, before there is any test, is what Stryker calls static; hooks too, which must not meet a mutant.
    stryker().counting = true;
    const sandbox = (path) => import(pathToFileURL(resolve(path)).href);
    const framework = await sandbox("mutation/vitest-in-process.mjs");
    for (const file of process.env.ISQ_MUTATION_TESTS.split(",")) {
      framework.startFile(file);
      await sandbox(file.replace(/\.ts$/, ".js"));
    }
    for (const { hooks } of framework.tests) await runHooks(hooks);
    stryker().counting = false;
    this.tests = framework.tests.map((test, index) => ({ ...test, id: String(index) }));
  }

  async dryRun() {
    const state = stryker();
    state.counting = true;
    const results = [];
    for (const test of this.tests) {
      state.currentTestId = test.id;
      const before = process.cpuUsage();
      const failure = await runTest(test);
      const { user, system } = process.cpuUsage(before);
      const timeSpentMs = (user + system) / 1000;
      if (failure) return { status: "error", errorMessage: `${test.name}: ${failure}` };
      if (timeSpentMs > MAX_TEST_MS) {
        console.error(`left out, ${timeSpentMs.toFixed(0)} ms: ${test.name}`);
        delete state.mutantCoverage?.perTest[test.id];
      } else results.push({ id: test.id, name: test.name, timeSpentMs, status: "success" });
    }
    state.currentTestId = undefined;
    state.counting = false;
    this.order = results.sort((a, b) => a.timeSpentMs - b.timeSpentMs).map(({ id }) => id);
    writeFileSync("mutation/order.json", JSON.stringify(this.order));
    return { status: "complete", tests: results, mutantCoverage: state.mutantCoverage };
  }

  /** Runs the mutant's tests, the quickest first, up to the first that fails. */
  async mutantRun({ activeMutant, testFilter, hitLimit }) {
    this.order ??= JSON.parse(readFileSync("mutation/order.json", "utf8"));
    const state = stryker();
    state.activeMutant = activeMutant.id;
    // Stryker's limit is a hundred times what the dry run hit; every test runs once here, so five times is endless enough.
    [state.hitCount, state.hitLimit] = hitLimit === undefined ? [] : [0, hitLimit / 20];
    const wanted = this.order.filter((id) => !testFilter || testFilter.includes(id));
    let done = 0;
    for (const id of wanted) {
      const failure = await runTest(this.tests[id]);
      done++;
      if (state.hitCount > state.hitLimit) return { status: "timeout", reason: "hit limit" };
      if (failure) return { status: "killed", killedBy: [id], failureMessage: failure, nrOfTests: done };
    }
    return { status: "survived", nrOfTests: done };
  }
}

const stryker = () => {
  globalThis.__stryker__ ??= {};
  return globalThis.__stryker__;
};

async function runHooks(hooks) {
  for (const hook of hooks) {
    if (!hook.done) await hook.run();
    hook.done = true;
  }
}

/** Undefined when it passes, else what went wrong. */
async function runTest({ run }) {
  try {
    await run();
    return undefined;
  } catch (error) {
    return String(error?.message ?? error).slice(0, 300);
  }
}

/** Makes JavaScript of all TypeScript in the sandbox, which is thrown away afterwards, beside its sources. */
function compileSandbox() {
  if (existsSync(READY)) return;
  for (const folder of SOURCES) compileFolder(folder);
  const { imports, ...manifest } = JSON.parse(readFileSync("package.json", "utf8"));
  writeFileSync(
    "package.json",
    JSON.stringify({ ...manifest, imports: { "#platform": "./src/node/platform.js" } }),
  );
  mkdirSync(READY);
}

function compileFolder(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && entry.name !== "node_modules") compileFolder(path);
    else if (/(?<!\.d)\.ts$/.test(entry.name)) compileFile(path);
  }
}

function compileFile(path) {
  const framework = pathToFileURL(resolve("mutation/vitest-in-process.mjs")).href;
  const { outputText } = ts.transpileModule(readFileSync(path, "utf8"), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, removeComments: true },
  });
  const text = outputText
    .replace(/from "vitest"/, `from ${JSON.stringify(framework)}`)
    // Hits are counted in the dry run only: counting costs more than most of what is counted.
    .replace("function cover() {", "function cover() { if (!ns.counting) return;");
  writeFileSync(path.replace(/\.ts$/, ".js"), text);
}

export const strykerPlugins = [declareClassPlugin(PluginKind.TestRunner, "in-process", InProcessRunner)];
