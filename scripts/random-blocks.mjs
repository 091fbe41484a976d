// Ten million random blocks of every type, plain and with importance, against the published llama.cpp library.
//
//   node scripts/random-blocks.mjs [--blocks 10000000] [--only "Q4K importance,Q6K"] [--state out/random-blocks.json] [--minutes 30]
//
// Takes hours; what was done is kept in the state file, and the next run goes on from there. Prints a table, exits 1 if
// anything differed, 3 if --minutes ended first.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { bundleForNode, root } from "./bundle.mjs";

const { values: flags } = parseArgs({
  options: {
    blocks: { type: "string", default: "10000000" },
    only: { type: "string" },
    state: { type: "string", default: "out/random-blocks.json" },
    minutes: { type: "string", default: "100000" },
  },
});
const SAVE_EVERY_MS = 10_000;

await bundleForNode("test/oracle/random-blocks.ts", "out/tools/random-blocks.mjs");
const { SUBJECTS, nameOf, openComparison, oracleMissing } = await import(
  `${root}out/tools/random-blocks.mjs`
);
if (oracleMissing) {
  console.error(oracleMissing);
  process.exit(2);
}

const state = readState(flags.state);
const wanted = flags.only?.split(",").map((name) => name.trim());
const subjects = SUBJECTS.filter((subject) => !wanted || wanted.includes(nameOf(subject)));
const end = performance.now() + 60_000 * Number(flags.minutes);
const compare = await openComparison();
let saved = performance.now();

// The one that is furthest behind goes next, so that an early end has some of everything.
for (;;) {
  const open = subjects.filter((subject) => progressOf(subject).blocks < Number(flags.blocks));
  if (open.length === 0 || performance.now() > end) break;
  open.sort((a, b) => progressOf(a).seconds - progressOf(b).seconds);
  await advance(open[0]);
  if (performance.now() - saved > SAVE_EVERY_MS) writeState();
}
writeState();
printTable();

function progressOf(subject) {
  state[nameOf(subject)] ??= { batches: 0, blocks: 0, referenceBlocks: 0, seconds: 0, differences: [] };
  return state[nameOf(subject)];
}

async function advance(subject) {
  const progress = progressOf(subject);
  const started = performance.now();
  const { blocks, referenceBlocks, difference } = await compare(subject, progress.batches);
  if (difference && progress.differences.length < 20) {
    progress.differences.push(`batch ${progress.batches}: ${difference}`);
    console.log(`${nameOf(subject)}, batch ${progress.batches}: ${difference}`);
  }
  progress.batches++;
  progress.blocks += blocks;
  progress.referenceBlocks += referenceBlocks;
  progress.seconds += (performance.now() - started) / 1000;
}

function readState(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return {};
  }
}

function writeState() {
  mkdirSync(dirname(flags.state), { recursive: true });
  writeFileSync(`${flags.state}.new`, JSON.stringify(state, null, 1));
  renameSync(`${flags.state}.new`, flags.state);
  saved = performance.now();
}

function printTable() {
  console.log(
    "| type | blocks | of them by the reference too | differences | seconds |\n|---|---|---|---|---|",
  );
  let [differences, unfinished] = [0, 0];
  for (const subject of subjects) {
    const { blocks, referenceBlocks, seconds, differences: found } = progressOf(subject);
    differences += found.length;
    unfinished += blocks < Number(flags.blocks) ? 1 : 0;
    console.log(
      `| ${nameOf(subject)} | ${blocks} | ${referenceBlocks} | ${found.length} | ${seconds.toFixed(0)} |`,
    );
  }
  if (differences > 0) process.exitCode = 1;
  else if (unfinished > 0) process.exitCode = 3;
}
