// Start-up: a fresh process, from the first import to the first quantized block, here and with native llama.cpp through koffi,
// taking turns; and the size of the package. Medians and ratios are printed and written as JSON.
// node bench/startup.mjs [--rounds 9] [--no-write]
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "./lib/measure.mjs";
import { round, writeResults } from "./lib/results.mjs";

const { values: flags } = parseArgs({
  options: { rounds: { type: "string", default: "9" }, "no-write": { type: "boolean", default: false } },
});
const rounds = Number(flags.rounds);
const root = fileURLToPath(new URL("..", import.meta.url));
const url = (path) => JSON.stringify(new URL(`../${path}`, import.meta.url).href);
const BLOCK = "Float32Array.from({ length: 256 }, (_, i) => Math.sin(i))";

/** What a fresh process runs between two readings of its clock; the last expression is the block. */
const WAYS = {
  "isq/quants": `const { quantize } = await import(${url("dist/quants/index.js")});
    const { data } = quantize("Q4K", ${BLOCK}, { shape: [1, 256] });`,
  "isq/wasm": `const { wasm } = await import(${url("dist/backends/wasm.js")});
    const { data } = (await wasm()).quantize("Q4K", ${BLOCK}, { shape: [1, 256] });`,
  "isq/threads, 2 workers": `const { threads } = await import(${url("dist/backends/threads.js")});
    const pool = await threads({ workers: 2 });
    const { data } = await pool.quantize("Q4K", ${BLOCK}, { shape: [1, 256] });`,
  "llama.cpp through koffi": `const { nativeCodec, copyIn, copyOut, reserve } = await import(${url("bench/lib/native.mjs")});
    const { TYPES } = await import(${url("dist/quants/table.js")});
    const out = reserve(144);
    nativeCodec(TYPES.Q4K).encode(copyIn(reserve(1024), ${BLOCK}), out, 1, 256, 0);
    const data = copyOut(out, 144);`,
};

function measure(way) {
  const code = `const start = performance.now(); ${WAYS[way]}
    process.stdout.write(JSON.stringify({ ms: performance.now() - start, hex: Buffer.from(data).toString("hex") }));
    process.exit(0);`;
  return JSON.parse(
    execFileSync(process.execPath, ["--input-type=module", "-e", code], { cwd: root, encoding: "utf8" }),
  );
}

const samples = Object.fromEntries(Object.keys(WAYS).map((way) => [way, []]));
let expected;
for (let i = 0; i <= rounds; i++) {
  for (const way of Object.keys(WAYS)) {
    const { ms, hex } = measure(way);
    expected ??= hex;
    if (hex !== expected) throw new Error(`${way} gives other bytes`);
    if (i > 0) samples[way].push(ms); // the first round brings files into memory
  }
}

const native = samples["llama.cpp through koffi"];
const rows = Object.entries(samples).map(([way, own]) => ({
  way,
  milliseconds: round(median(own)),
  ofNative: round(median(own.map((ms, i) => ms / native[i]))),
}));
const [{ size, unpackedSize, entryCount }] = JSON.parse(
  execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: root, encoding: "utf8" }),
);
rows.push({ way: "package", packedBytes: size, unpackedBytes: unpackedSize, files: entryCount });
for (const row of rows) console.log(JSON.stringify(row));
if (!flags["no-write"]) writeResults("startup", { rounds, block: "Q4K, 256 values" }, rows, ({ way }) => way);
