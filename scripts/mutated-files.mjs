// A million mutated files of every format: each is read to a value or to a tagged error that names the file, in bounded time.
//
//   node scripts/mutated-files.mjs [--files 1000000] [--only gguf,uqff] [--state out/mutated-files.json] [--minutes 30]
//   node scripts/mutated-files.mjs --only gguf --show 12345      writes the files of one number to out/mutated/
//
// Takes hours; what was done is kept in the state file, and the next run goes on from there. Prints a table, exits 1 if
// anything failed, 3 if --minutes ended first.
import { mkdirSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { bundleForNode, root } from "./bundle.mjs";
import { exitCodeOf, runLong } from "./long-run.mjs";

const { values: flags } = parseArgs({
  options: {
    files: { type: "string", default: "1000000" },
    only: { type: "string" },
    state: { type: "string", default: "out/mutated-files.json" },
    minutes: { type: "string", default: "100000" },
    show: { type: "string" },
  },
});
const BATCH = 500;

process.chdir(root);
await bundleForNode("test/files/mutated-files.ts", "out/tools/mutated-files.mjs");
const { FORMATS, judge, makeCase, seedsOf } = await import(`${root}out/tools/mutated-files.mjs`);
const names = flags.only?.split(",") ?? FORMATS;
const seeds = Object.fromEntries(names.map((format) => [format, seedsOf(format)]));

if (flags.show) await show(names[0], Number(flags.show));
else await run();

async function run() {
  const target = Number(flags.files);
  const state = await runLong({
    names,
    unit: "files",
    target,
    minutes: Number(flags.minutes),
    stateFile: flags.state,
    start: () => ({ files: 0, slowest: 0, results: {} }),
    advance,
  });
  printTable(state);
  process.exitCode = exitCodeOf(state, names, "files", target);
}

async function advance(format, progress) {
  let found;
  for (let index = progress.files; index < progress.files + BATCH; index++) {
    const { result, failure, seconds } = await judge(format, makeCase(format, seeds[format], index));
    progress.results[result] = (progress.results[result] ?? 0) + 1;
    progress.slowest = Math.max(progress.slowest, seconds);
    if (failure) found ??= `file ${index}: ${failure}`;
  }
  progress.files += BATCH;
  return found;
}

function printTable(state) {
  console.log("| format | files | values | refused, by how many tags | failures | slowest, s |");
  console.log("|---|---|---|---|---|---|");
  for (const format of names) {
    const { files, results, failures, slowest } = state[format];
    const { value = 0, ...refused } = results;
    const count = Object.values(refused).reduce((sum, n) => sum + n, 0);
    const tags = Object.keys(refused).length;
    console.log(
      `| ${format} | ${files} | ${value} | ${count}, ${tags} | ${failures.length} | ${slowest.toFixed(2)} |`,
    );
  }
}

async function show(format, index) {
  const files = makeCase(format, seeds[format], index);
  mkdirSync("out/mutated", { recursive: true });
  for (const [name, bytes] of Object.entries(files)) writeFileSync(`out/mutated/${name || format}`, bytes);
  console.log(await judge(format, files));
}
