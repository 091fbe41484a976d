// A test runner for Stryker that keeps everything in one process: test files are imported once, and a mutant costs what its
// tests cost. Starting a test framework for each of thousands of mutants would take days.
import { createHash } from "node:crypto";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { declareClassPlugin, PluginKind } from "@stryker-mutator/api/plugin";
import ts from "typescript";

/** A test that needs more processor time than this in the dry run is left out. */
const MAX_TEST_MS = Number(process.env.ISQ_MUTATION_TEST_MS);
/** A test that waits so many times so long with nothing else to do has failed: what it waits for never comes. */
const WAITS = 50;
const WAIT_MS = 100;
const SOURCES = ["src", "test", "mutation"];
const READY = ".compiled";
/** Outside of the sandbox, which is out/stryker/…: what was compiled, by hash. */
const COMPILED = "../../mutation-js";
const RULES = readFileSync(new URL(import.meta.url), "utf8");
const IMPORTS = {
  "#platform": "./src/node/platform.js",
  "#vitest": "./mutation/vitest-in-process.mjs",
  "#fast-check": "./mutation/fast-check-short.mjs",
};

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
    const skipped = JSON.parse(process.env.ISQ_MUTATION_SKIPPED);
    this.tests = framework.tests
      .filter(({ name }) => !skipped.some((part) => name.includes(part)))
      .map((test, index) => ({ ...test, id: String(index) }));
    for (const { hooks } of this.tests) await runHooks(hooks);
    stryker().counting = false;
  }

  async dryRun() {
    const state = stryker();
    const results = [];
    const leftOut = [];
    for (const test of this.tests) {
      state.counting = true;
      state.currentTestId = test.id;
      const before = process.cpuUsage();
      const failure = await runTest(test);
      const { user, system } = process.cpuUsage(before);
      const timeSpentMs = (user + system) / 1000;
      state.counting = false;
      if (failure) return { status: "error", errorMessage: `${test.name}: ${failure}` };
      const slow = timeSpentMs > MAX_TEST_MS;
      const reason = slow ? `it takes ${timeSpentMs.toFixed(0)} ms` : await runTest(test);
      if (reason) {
        leftOut.push(`${test.name}: ${slow ? "" : "the second time, "}${reason}`);
        delete state.mutantCoverage?.perTest[test.id];
      } else results.push({ id: test.id, name: test.name, timeSpentMs, status: "success" });
    }
    state.currentTestId = undefined;
    writeFileSync(`${COMPILED}/left-out.txt`, `${leftOut.join("\n")}\n`);
    forgetLoading(state.mutantCoverage);
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
    const isFirst = !this.started;
    this.started = true;
    let done = 0;
    for (const id of wanted) {
      const failure = await runTest(this.tests[id]);
      done++;
      if (state.hitCount > state.hitLimit) return { status: "timeout", reason: "hit limit" };
      if (failure) {
        state.activeMutant = undefined;
        // What fails without the mutant as well was spoiled by an earlier one: Stryker tries again in a new process.
        const still = isFirst ? undefined : await runTest(this.tests[id]);
        if (still) {
          appendFileSync(
            `${COMPILED}/spoiled.txt`,
            `${activeMutant.fileName}: ${this.tests[id].name}: ${still}\n`,
          );
          process.exit(1);
        }
        return { status: "killed", killedBy: [id], failureMessage: failure, nrOfTests: done };
      }
    }
    return { status: "survived", nrOfTests: done };
  }
}

/** What tests reach needs no process of its own because it also runs while modules load: test files make their samples then. */
function forgetLoading({ static: loading, perTest }) {
  const reached = new Set(Object.values(perTest).flatMap(Object.keys));
  for (const id of Object.keys(loading)) if (reached.has(id)) delete loading[id];
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

/** Why a promise failed that nobody waited for; it would end the process. */
let lost;
process.on("unhandledRejection", (reason) => {
  lost = `nobody waited for: ${reason}`;
});

/** Undefined when it passes, else what went wrong. */
async function runTest({ run, after }) {
  const waiting = countWaits();
  lost = undefined;
  try {
    await Promise.race([run(), waiting.tooMany]);
    // Promises that nobody waited for tell of themselves in the next turn of the event loop.
    await new Promise(setImmediate);
    return lost;
  } catch (error) {
    return String(error?.message ?? error).slice(0, 300);
  } finally {
    waiting.stop();
    for (const clear of after) await clear();
  }
}

/** Counts turns of the event loop, not time: on a busy machine a test may take long and be all right. */
function countWaits() {
  let timer;
  const tooMany = new Promise((_, reject) => {
    const wait = (count) => {
      timer = setTimeout(
        () => (count === WAITS ? reject(new Error("it waits for ever")) : wait(count + 1)),
        WAIT_MS,
      );
    };
    wait(1);
  });
  return { tooMany, stop: () => clearTimeout(timer) };
}

/** Makes JavaScript of all TypeScript in the sandbox, which is thrown away afterwards, beside its sources. */
function compileSandbox() {
  if (existsSync(READY)) return;
  mkdirSync(COMPILED, { recursive: true });
  for (const folder of SOURCES) compileFolder(folder);
  const manifest = JSON.parse(readFileSync("package.json", "utf8"));
  writeFileSync("package.json", JSON.stringify({ ...manifest, imports: IMPORTS }));
  mkdirSync(READY);
}

function compileFolder(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && entry.name !== "node_modules") compileFolder(path);
    else if (/(?<!\.d)\.ts$/.test(entry.name)) compileFile(path);
  }
}

/** What was compiled is kept for other groups: most files are the same there. */
function compileFile(path) {
  const source = readFileSync(path, "utf8");
  const key = createHash("sha256").update(RULES).update(source).digest("hex");
  const kept = join(COMPILED, key);
  if (!existsSync(kept)) writeFileSync(kept, compile(source));
  copyFileSync(kept, path.replace(/\.ts$/, ".js"));
}

function compile(source) {
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, removeComments: true },
  });
  return (
    outputText
      .replace(/from "vitest"/, 'from "#vitest"')
      .replace(/from "fast-check"/, 'from "#fast-check"')
      // Hits are counted in the dry run only: counting costs more than most of what is counted.
      .replace("function cover() {", "function cover() { if (!ns.counting) return;")
  );
}

export const strykerPlugins = [declareClassPlugin(PluginKind.TestRunner, "in-process", InProcessRunner)];
