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
  timeoutMS: 20_000,
  disableTypeChecks: false,
  checkers: [],
  reporters: ["json", "progress-append-only"],
  jsonReporter: { fileName: "out/mutation/stryker.json" },
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
    "/mutation/node_modules",
    "/out",
    "/pages",
    "/runtimes",
  ],
  allowConsoleColors: false,
};
