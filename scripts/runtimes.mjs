// One suite in every runtime: Node 20, 22 and 24, Deno, Bun, Chromium. Prints what each has and the sha256 of everything
// produced; exits 1 if a row has two values, a check fails, or a runtime is missing.
//
//   node scripts/runtimes.mjs [--only "node 22,chromium"] [--quick] [--json out/runtimes/report.json]
//
// The runtimes are npm packages of their own folder, runtimes/, which the first run installs; Chromium is the system's.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { chromiumMissing, openChromium, serveProject } from "./browser.mjs";
import { bundleForBrowser, bundleOverDist, root } from "./bundle.mjs";

const PACKAGES = `${root}runtimes/node_modules`;
const OUT = "out/runtimes";
const SUITE = "runtimes/run-suite.mjs";

const RUNTIMES = {
  "node 20": { command: `${PACKAGES}/node20/bin/node`, args: [SUITE] },
  "node 22": { command: `${PACKAGES}/node22/bin/node`, args: [SUITE] },
  "node 24": { command: `${PACKAGES}/node24/bin/node`, args: [SUITE] },
  deno: { command: `${PACKAGES}/@deno/linux-x64-glibc/deno`, args: ["run", "--allow-all", SUITE] },
  bun: { command: `${PACKAGES}/@oven/bun-linux-x64/bin/bun`, args: ["run", SUITE] },
};

/** Makes the suite's module; the package must have been built. */
export async function buildSuite() {
  mkdirSync(`${root}${OUT}`, { recursive: true });
  await bundleOverDist("test/suites/runtime/index.ts", `${OUT}/suite.mjs`);
}

/** Runs the suite with a runtime's command. Returns its report, or what went wrong. */
export function runWithCommand(name, { command, args }, more = []) {
  const file = `${OUT}/${name.replace(" ", "-")}.json`;
  rmSync(root + file, { force: true });
  const { status, error, signal } = spawnSync(command, [...args, file, ...more], {
    cwd: root,
    stdio: "inherit",
  });
  if (!existsSync(root + file))
    throw new Error(`${name} ended ${error?.message ?? signal ?? `with ${status}`}`);
  return JSON.parse(readFileSync(root + file, "utf8"));
}

/** Runs the suite in a page. */
export async function runInChromium({ isolated, quick = false }) {
  const { result, version } = await callInChromium(`run(${quick})`, { isolated, quiet: quick });
  return { ...result, version };
}

/** What a page's runtime has. */
export const featuresOfChromium = async ({ isolated }) =>
  (await callInChromium("features()", { isolated, quiet: true })).result;

/** Calls a function of runtimes/run-in-page.mjs. Browsers have no packages: an import map says where they are. */
async function callInChromium(call, { isolated, quiet }) {
  const imports = await vendorPackages();
  const page = `<!doctype html><title>suite</title><script type="importmap">${JSON.stringify({ imports })}</script>`;
  const server = await serveProject({ pages: { "/suite": page }, isolated });
  const browser = await openChromium();
  try {
    const tab = await browser.newPage();
    if (!quiet) tab.on("console", (message) => console.error(message.text()));
    await tab.goto(`${server.url}/suite`);
    const result = await tab.evaluate(`import("/runtimes/run-in-page.mjs").then((page) => page.${call})`);
    return { result, version: browser.version() };
  } finally {
    await browser.close();
    await server.close();
  }
}

/** Bundles every package that dist/ imports in a browser, one file each. Returns the import map. */
async function vendorPackages() {
  const names = new Set();
  for (const path of readdirSync(`${root}dist`, { recursive: true, encoding: "utf8" })) {
    if (!path.endsWith(".js") || /^(node|cli|server)\//.test(path)) continue;
    const code = readFileSync(`${root}dist/${path}`, "utf8");
    for (const [, name] of code.matchAll(/(?:from|import\()\s*"([^."#][^"]*)"/g)) names.add(name);
  }
  const imports = { "#platform": "/dist/web/platform.js" };
  for (const name of names) {
    const file = `${OUT}/packages/${name.replaceAll("/", "-").replace(/(\.js)?$/, ".js")}`;
    await bundleForBrowser(name, file);
    imports[name] = `/${file}`;
  }
  return imports;
}

function installRuntimes() {
  if (existsSync(PACKAGES)) return;
  console.error("installing the runtimes into runtimes/node_modules (700 MB)");
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
  const { status } = spawnSync("npm", args, { cwd: `${root}runtimes`, stdio: "inherit" });
  if (status !== 0) throw new Error("npm ci in runtimes/ failed");
}

/** All values of each row, over runtimes and backends: one is right. */
export function mergeRows(reports) {
  const merged = new Map();
  for (const [runtime, { rows }] of Object.entries(reports)) {
    for (const [row, byBackend] of Object.entries(rows)) {
      const values = merged.get(row) ?? new Map();
      merged.set(row, values);
      for (const [backend, hash] of Object.entries(byBackend)) {
        values.set(hash, [...(values.get(hash) ?? []), `${runtime} ${backend}`]);
      }
    }
  }
  return merged;
}

function printReports(reports) {
  const runtimes = Object.keys(reports);
  const features = [...new Set(runtimes.flatMap((name) => Object.keys(reports[name].features)))];
  console.log("\n# What each runtime has\n");
  for (const name of runtimes) {
    console.log(`${name} (${reports[name].seconds.toFixed(0)} s)`);
    for (const feature of features) console.log(`  ${feature}: ${reports[name].features[feature]}`);
  }
  console.log("\n# What was produced: sha256, and by how many runtimes and backends\n");
  const merged = mergeRows(reports);
  const width = Math.max(...[...merged.keys()].map((row) => row.length));
  for (const [row, values] of merged) {
    for (const [hash, by] of values) {
      const who = values.size === 1 ? `${by.length}` : `DIFFERS: ${by.join(", ")}`;
      console.log(`${row.padEnd(width)}  ${hash}  ${who}`);
    }
  }
  return merged;
}

async function main() {
  const { values: flags } = parseArgs({
    options: {
      only: { type: "string" },
      quick: { type: "boolean", default: false }, // the part that tests run
      json: { type: "string" },
    },
  });
  const { quick } = flags;
  const wanted = flags.only?.split(",").map((name) => name.trim());
  const isWanted = (name) => !wanted || wanted.includes(name);
  await buildSuite();
  const reports = {};
  const problems = [];
  const attempt = async (name, run) => {
    if (!isWanted(name)) return;
    console.error(`\n## ${name}`);
    try {
      const report = await run();
      reports[name] = report;
      problems.push(...report.failures.map((failure) => `${name}: ${failure}`));
      for (const [feature, said] of Object.entries(report.features)) {
        if (said.startsWith("NOT OURS")) problems.push(`${name}: ${feature}: ${said}`);
      }
    } catch (error) {
      problems.push(`${name}: ${error.message}`);
    }
  };
  if (Object.keys(RUNTIMES).some(isWanted)) installRuntimes();
  for (const [name, runtime] of Object.entries(RUNTIMES)) {
    await attempt(name, () => runWithCommand(name, runtime, quick ? ["--quick"] : []));
  }
  const inBrowser = (options) => () => {
    if (chromiumMissing !== undefined) throw new Error(chromiumMissing);
    return runInChromium(options);
  };
  await attempt("chromium", inBrowser({ isolated: true, quick }));
  await attempt("chromium without shared memory", inBrowser({ isolated: false, quick }));
  const merged = printReports(reports);
  if (flags.json) writeFileSync(flags.json, JSON.stringify(reports, null, 1));
  const differing = [...merged].filter(([, values]) => values.size > 1).map(([row]) => row);
  problems.push(...differing.map((row) => `${row} has more than one value`));
  for (const problem of problems) console.log(`NOT OK ${problem}`);
  const count = Object.keys(reports).length;
  if (problems.length === 0) console.log(`\nOK ${merged.size} rows, one value each, in ${count} runtimes`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}

if (process.argv[1] === `${root}scripts/runtimes.mjs`) await main();
