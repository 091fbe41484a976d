// Runs the suite in the runtime that runs this file (Node, Deno or Bun): run-suite.mjs REPORT.json [--quick]
import { readdir, readFile, writeFile } from "node:fs/promises";
import { readVectors } from "../dist/node/vectors.js";
import { runEverything } from "../out/runtimes/suite.mjs";

const root = new URL("..", import.meta.url);
const host = {
  read: async (path) => new Uint8Array(await readFile(new URL(path, root))),
  list: (folder) => readdir(new URL(folder, root)),
  readVectors,
};
const report = await runEverything(host, {
  quick: process.argv[3] === "--quick",
  log: (line) => console.error(line),
});
await writeFile(process.argv[2], JSON.stringify(report, null, 1));
