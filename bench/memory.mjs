// Peak memory of `isq quantize` from a checkpoint of 4 GB, in a process of its own: what it says of itself when it ends.
//
//   npm run build && node bench/memory.mjs [gguf:Q4K uqff:Q4K …]
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, statSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { bundleForNode } from "../scripts/bundle.mjs";
import { round, writeResults } from "./lib/results.mjs";

const SIZE = { layers: 24, width: 2048, hidden: 10240, heads: 16, vocabulary: 32000 };
/** Bytes that the process may take at its worst moment. */
const LIMIT = 400e6;

const wanted = process.argv.slice(2);
const ALL = [
  ...["gguf:Q4K", "gguf:Q8_0"],
  ...["Q4K", "HQQ4", "HQQ8", "FP8"].flatMap((type) => [`uqff:${type}`, `safetensors:${type}`]),
];
const cases = wanted.length > 0 ? wanted : ALL;
const out = fileURLToPath(new URL("../out/bench/memory", import.meta.url));
const tool = fileURLToPath(new URL("../out/tools/synthetic.mjs", import.meta.url));
await bundleForNode("test/fixtures/synthetic.ts", tool);
const { writeSyntheticModel } = await import(tool);
const command = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const REPORT = `process.on("exit", () => console.error("peak " + 1024 * process.resourceUsage().maxRSS));`;

function measure(format, type) {
  const file = `${out}/out/model.${format}`;
  const hook = `data:text/javascript,${encodeURIComponent(REPORT)}`;
  const args = ["--import", hook, command, "quantize", "-m", `${out}/model`, "--isq", type, "-o", file];
  const started = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  const seconds = (performance.now() - started) / 1000;
  if (status !== 0) throw new Error(`isq quantize ended with ${status}:\n${stderr}`);
  const peak = Number(/^peak (\d+)$/m.exec(stderr)?.[1]);
  const byteLength = format === "uqff" ? undefined : statSync(file).size;
  return {
    case: `${format}:${type}`,
    peakBytes: peak,
    withinLimit: peak < LIMIT,
    byteLength,
    seconds: round(seconds),
  };
}

const rows = [];
try {
  const sourceBytes = await writeSyntheticModel(`${out}/model`, SIZE);
  for (const name of cases) {
    rmSync(`${out}/out`, { recursive: true, force: true });
    mkdirSync(`${out}/out`);
    const row = { ...measure(...name.split(":")), sourceBytes };
    console.log(`${name}: peak ${(row.peakBytes / 1e6).toFixed(0)} MB of ${LIMIT / 1e6}, ${row.seconds} s`);
    rows.push(row);
  }
} finally {
  rmSync(out, { recursive: true, force: true });
}
writeResults("memory", { size: SIZE, limitBytes: LIMIT, processors: cpus().length }, rows, (row) => row.case);
if (rows.some(({ withinLimit }) => !withinLimit)) process.exitCode = 1;
