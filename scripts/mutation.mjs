// Mutation testing: Stryker changes src/quants and src/files in one place after the other, and some test must fail each time.
//
//   node scripts/mutation.mjs [--only q4_0.ts,uqff] [--again] [--keep] [--last] [--static] [--survivors] [--write] [--minutes 30]
//
// Takes an hour of one core. Mutants of what runs while modules load (tables, mostly) need a process each and are left out and
// counted, unless --static is given. Files are done in groups; the report of a group is kept in out/mutation/ and used again as
// long as its files and tests are what they were, unless --again is given; with --keep, when tests were added, only mutants are
// run that survived or that the new tests reach; with --last nothing is run, and the last report of each group counts. Prints the score of every file and how many survived by kinds, which
// docs/mutation.md explains (--write puts both tables there), with --survivors every one that did. Exits 1 if a score is below
// the file's bound in mutation/groups.mjs, 3 if --minutes ended first.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { COVERS, GROUPS, LEAST_SCORE, SKIPPED } from "../mutation/groups.mjs";
import { kindTable, printSurvivors, scoreRows, scoreTable, writeTables } from "../mutation/report.mjs";
import { root } from "./bundle.mjs";

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    again: { type: "boolean", default: false },
    last: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
    static: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    survivors: { type: "boolean", default: false },
    minutes: { type: "string", default: "100000" },
  },
});
const RUNNER = ["runner", "vitest-in-process", "fast-check-short"].map((name) => `mutation/${name}.mjs`);
const KEPT = `${root}out/mutation`;
process.chdir(root);
mkdirSync(KEPT, { recursive: true });
checkGroups();

const end = performance.now() + 60_000 * Number(flags.minutes);
const wanted = GROUPS.filter(
  ({ files }) =>
    !flags.only || flags.only.split(",").some((part) => files.some((file) => file.includes(part))),
);
let unfinished = 0;
const results = [];
for (const group of wanted) {
  const last = `${KEPT}/${group.name}.json`;
  const report = flags.last ? last : `${KEPT}/${group.name}-${fingerprint(group)}.json`;
  if (flags.again || !existsSync(report)) {
    if (flags.last || performance.now() > end) {
      unfinished++;
      continue;
    }
    runGroup(group, report);
  }
  for (const [file, { mutants }] of Object.entries(JSON.parse(readFileSync(report, "utf8")).files))
    results.push({ file, mutants });
}
const rows = scoreRows(results);
const low = rows.filter(({ file, score }) => score < (LEAST_SCORE[file] ?? 0));
console.log(scoreTable(rows));
for (const { file, score } of low)
  console.log(`${file}: ${score.toFixed(1)} % is below ${LEAST_SCORE[file]} %`);
console.log(`\n${kindTable(results)}`);
if (flags.survivors) printSurvivors(results);
if (flags.write) writeTables("docs/mutation.md", { scores: scoreTable(rows), kinds: kindTable(results) });
process.exitCode = low.length > 0 ? 1 : unfinished > 0 ? 3 : 0;

/** Every file of both folders is in one group. */
function checkGroups() {
  const listed = GROUPS.flatMap(({ files }) => files).sort();
  const there = COVERS.flatMap((folder) => readdirSync(folder).map((file) => `${folder}/${file}`)).sort();
  if (listed.join() === there.join()) return;
  const differing = [...listed, ...there].filter((file) => !(listed.includes(file) && there.includes(file)));
  throw new Error(`mutation/groups.mjs and the folders differ in ${differing.join(", ")}`);
}

function fingerprint({ files, tests }) {
  const hash = createHash("sha256").update(flags.static ? "static" : "");
  for (const file of [...files, ...tests, ...RUNNER]) hash.update(readFileSync(file));
  return hash.digest("hex").slice(0, 12);
}

function runGroup({ name, files, tests, testMs = 150 }, report) {
  if (!existsSync("mutation/node_modules"))
    run("npm", ["ci", "--prefix", "mutation", "--no-audit", "--no-fund"], {});
  console.error(`\n# ${name}`);
  const stryker = "mutation/node_modules/@stryker-mutator/core/bin/stryker.js";
  const parts = [stryker, "run", "mutation/stryker.config.mjs", "--mutate", files.join(",")];
  run(process.execPath, parts, {
    ISQ_MUTATION_TESTS: tests.join(","),
    ISQ_MUTATION_TEST_MS: String(testMs),
    ISQ_MUTATION_SKIPPED: JSON.stringify(SKIPPED),
    ISQ_MUTATION_REPORT: `out/mutation/${name}.json`,
    ...(flags.keep && { ISQ_MUTATION_KEEP: "1" }),
    ...(flags.static && { ISQ_MUTATION_STATIC: "1" }),
  });
  copyFileSync(`out/mutation/${name}.json`, report);
}

function run(command, parts, env) {
  const { status } = spawnSync(command, parts, { stdio: "inherit", env: { ...process.env, ...env } });
  if (status !== 0) process.exit(status ?? 1);
}
