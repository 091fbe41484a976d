// What scripts/mutation.mjs gives Stryker; the files to mutate and the tests come from there.
import { fileURLToPath } from "node:url";

/** @type {import("@stryker-mutator/api/core").PartialStrykerOptions} */
export default {
  plugins: [fileURLToPath(new URL("runner.mjs", import.meta.url))],
  testRunner: "in-process",
  coverageAnalysis: "perTest",
  // Static mutants, in what runs while modules load, would need a process each.
  ignoreStatic: process.env.ISQ_MUTATION_STATIC !== "1",
  concurrency: 1,
  // Of an earlier report, what it found and nothing has changed since: scripts/mutation.mjs --keep.
  incremental: true,
  incrementalFile: process.env.ISQ_MUTATION_REPORT,
  force: process.env.ISQ_MUTATION_KEEP !== "1",
  // The runner ends what loops or waits for ever; this is for what it cannot see, and long enough for a busy machine.
  timeoutMS: 180_000,
  disableTypeChecks: false,
  checkers: [],
  reporters: ["progress-append-only"],
  tempDirName: "out/stryker",
  cleanTempDir: "always",
  // The sandbox needs sources, tests and what these read.
  ignorePatterns: [
    "/assembly",
    "/bench",
    "/build",
    "/dist",
    "/docs",
    "/gpu",
    // Its tests find what the package imports.
    "/mutation/package*.json",
    "/mutation/node_modules",
    "/out",
    "/pages",
    "/runtimes",
  ],
  allowConsoleColors: false,
};
