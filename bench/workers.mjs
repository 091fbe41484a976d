// What a second worker brings: pools of one and of two take turns quantizing the same matrix, from a file, as models are loaded,
// and from an array. By the clock, so the machine has to be otherwise idle. Medians and ratios are printed and written as JSON.
// node bench/workers.mjs [--types Q4K,Q8_0,…] [--rows 4096] [--columns 4096] [--rounds 7] [--no-write]
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { threads } from "../dist/backends/threads.js";
import { gaussian, median } from "./lib/measure.mjs";
import { round, writeResults } from "./lib/results.mjs";

const { values: flags } = parseArgs({
  options: {
    types: { type: "string", default: "Q2K,Q3K,Q4K,Q5K,Q6K,Q8_0,Q4_0" },
    rows: { type: "string", default: "4096" },
    columns: { type: "string", default: "4096" },
    rounds: { type: "string", default: "7" },
    "no-write": { type: "boolean", default: false },
  },
});
const [rows, columns, rounds] = [flags.rows, flags.columns, flags.rounds].map(Number);
const shape = [rows, columns];
// Values in shared memory reach the workers without a copy.
const values = new Float32Array(new SharedArrayBuffer(4 * rows * columns));
values.set(gaussian(rows * columns));
const folder = mkdtempSync(join(tmpdir(), "workers-"));
const file = { path: join(folder, "values"), byteOffset: 0, type: "F32", shape };
writeFileSync(file.path, new Uint8Array(values.buffer));

const ways = {
  file: (pool, type) => pool.quantizeFile(type, file, { shape }),
  // What this adds is the result's copy in memory of the caller's own, by one thread.
  array: (pool, type) => pool.quantize(type, values, { shape }),
};
const pools = [await threads({ workers: 1 }), await threads({ workers: 2 })];
async function seconds(quantize, pool, type) {
  const start = performance.now();
  await quantize(pool, type);
  return (performance.now() - start) / 1000;
}

const results = [];
for (const type of flags.types.split(",")) {
  for (const [from, quantize] of Object.entries(ways)) {
    const samples = [[], []];
    for (let i = 0; i <= rounds; i++) {
      for (const [k, pool] of pools.entries()) {
        const taken = await seconds(quantize, pool, type);
        if (i > 0) samples[k].push(taken);
      }
    }
    const [one, two] = samples;
    const row = {
      type,
      from,
      oneWorkerSeconds: round(median(one)),
      twoWorkersSeconds: round(median(two)),
      twoToOne: round(median(one.map((taken, i) => taken / two[i]))),
    };
    results.push(row);
    console.log(JSON.stringify(row));
  }
}
for (const pool of pools) await pool.dispose();
rmSync(folder, { recursive: true });
if (!flags["no-write"]) {
  writeResults("workers", { rows, columns, rounds }, results, ({ type, from }) => `${type} ${from}`);
}
