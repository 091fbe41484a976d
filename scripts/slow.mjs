// Every slow suite, one after the other: hours. Each long one keeps what it has done in out/ and goes on from there when
// this is run again; --minutes ends each of them after so many.
//
//   npm run test:slow -- [--minutes 30] [--only blocks,mutation]
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { root } from "./bundle.mjs";

const { values: flags } = parseArgs({ options: { minutes: { type: "string" }, only: { type: "string" } } });
const limit = flags.minutes ? ["--minutes", flags.minutes] : [];

const SUITES = {
  tests: { about: "all tests, with exhaustive and long ones", command: ["scripts/test.mjs", "--slow"] },
  mutants: {
    about: "the listed mutants of the quantizers, by the golden set",
    command: ["scripts/mutants.mjs"],
  },
  blocks: {
    about: "10^7 random blocks per type against the published library",
    command: ["scripts/random-blocks.mjs", ...limit],
  },
  files: { about: "10^6 mutated files per format", command: ["scripts/mutated-files.mjs", ...limit] },
  mutation: { about: "Stryker on src/quants and src/files", command: ["scripts/mutation.mjs", ...limit] },
  runtimes: { about: "one suite in every runtime", command: ["scripts/runtimes.mjs"] },
};

const ENDS = { 0: "passed", 1: "FAILED", 2: "CANNOT RUN HERE", 3: "not finished: run it again" };

const wanted = flags.only?.split(",") ?? Object.keys(SUITES);
const ends = wanted.map((name) => {
  const { about, command } = SUITES[name];
  console.log(`\n# ${name}: ${about}\n`);
  const { status } = spawnSync(process.execPath, command, { cwd: root, stdio: "inherit" });
  return [name, status ?? 1];
});
console.log("\n| slow suite | result |\n|---|---|");
for (const [name, status] of ends) console.log(`| ${name} | ${ENDS[status] ?? `FAILED with ${status}`} |`);
process.exitCode = ends.every(([, status]) => status === 0)
  ? 0
  : ends.some(([, s]) => s !== 0 && s !== 3)
    ? 1
    : 3;
