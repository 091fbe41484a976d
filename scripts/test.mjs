// The whole check: format and lint, types and build, tests. Ends with one line of counts. `--slow` adds the slow suites;
// further arguments go to vitest.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const slow = process.argv.includes("--slow");
const rest = process.argv.slice(2).filter((argument) => argument !== "--slow");
const report = "out/tests.json";

function run(label, command, args) {
  console.log(`\n# ${label}`);
  const env = { ...process.env, ...(slow && { ISQ_SLOW: "1" }) };
  return spawnSync(process.execPath, [command, ...args], { cwd: root, stdio: "inherit", env }).status ?? 1;
}

const checks = [
  ["format and lint", "node_modules/@biomejs/biome/bin/biome", ["check", "."]],
  ["types and build", "scripts/build.mjs", []],
  ["types of tests", "node_modules/typescript/bin/tsc", ["-p", "test/tsconfig.json"]],
  ["types of pages", "node_modules/typescript/bin/tsc", ["-p", "pages/tsconfig.json"]],
];
for (const [label, command, args] of checks) {
  if (run(label, command, args) !== 0) {
    console.log(`\n${label} failed\n0 passed, 1 failed`);
    process.exit(1);
  }
}

mkdirSync(`${root}/out`, { recursive: true });
rmSync(`${root}/${report}`, { force: true });
const status = run("tests", "node_modules/vitest/vitest.mjs", [
  "run",
  "--reporter=default",
  "--reporter=json",
  `--outputFile.json=${report}`,
  ...rest,
]);
const counts = JSON.parse(readFileSync(`${root}/${report}`, "utf8"));
const failed = counts.numFailedTests + (status !== 0 && counts.numFailedTests === 0 ? 1 : 0);
const skipped = counts.numPendingTests + counts.numTodoTests;
console.log(
  `\n${counts.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`,
);
process.exit(status);
