// Ten million random blocks of every type, plain and with importance, against the published llama.cpp library.
//
//   node scripts/random-blocks.mjs [--blocks 10000000] [--only "Q4K importance,Q6K"] [--state out/random-blocks.json] [--minutes 30]
//
// Takes hours; what was done is kept in the state file, and the next run goes on from there. Prints a table, exits 1 if
// anything differed, 3 if --minutes ended first.
import { parseArgs } from "node:util";
import { bundleForNode, root } from "./bundle.mjs";
import { exitCodeOf, runLong } from "./long-run.mjs";

const { values: flags } = parseArgs({
  options: {
    blocks: { type: "string", default: "10000000" },
    only: { type: "string" },
    state: { type: "string", default: "out/random-blocks.json" },
    minutes: { type: "string", default: "100000" },
  },
});
await bundleForNode("test/oracle/random-blocks.ts", "out/tools/random-blocks.mjs");
const { SUBJECTS, nameOf, openComparison, oracleMissing } = await import(
  `${root}out/tools/random-blocks.mjs`
);
if (oracleMissing) {
  console.error(oracleMissing);
  process.exit(2);
}

const wanted = flags.only?.split(",").map((name) => name.trim());
const subjects = SUBJECTS.filter((subject) => !wanted || wanted.includes(nameOf(subject)));
const byName = new Map(subjects.map((subject) => [nameOf(subject), subject]));
const names = [...byName.keys()];
const target = Number(flags.blocks);
const compare = await openComparison();
const state = await runLong({
  names,
  unit: "blocks",
  target,
  minutes: Number(flags.minutes),
  stateFile: flags.state,
  start: () => ({ blocks: 0, referenceBlocks: 0 }),
  async advance(name, progress) {
    const { blocks, referenceBlocks, difference } = await compare(byName.get(name), progress.batches);
    progress.blocks += blocks;
    progress.referenceBlocks += referenceBlocks;
    return difference;
  },
});

console.log(
  "| type | blocks | of them by the reference too | differences | seconds |\n|---|---|---|---|---|",
);
for (const name of names) {
  const { blocks, referenceBlocks, seconds, failures } = state[name];
  console.log(`| ${name} | ${blocks} | ${referenceBlocks} | ${failures.length} | ${seconds.toFixed(0)} |`);
}
process.exitCode = exitCodeOf(state, names, "blocks", target);
