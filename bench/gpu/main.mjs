// The whole measurement on this machine's adapter, as JSON. Bundled by bench/gpu.mjs; arguments: file, sections.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { webgpu } from "../../src/backends/webgpu.ts";
import { requestDevice } from "../../src/backends/webgpu-adapter.ts";
import { GpuDevice } from "../../src/backends/webgpu-device.ts";
import { upload } from "../../src/backends/webgpu-run.ts";
import { destroyAtExit, openGpu } from "../../src/node/dawn.ts";
import { makeValues, measureCodecs } from "./codecs.mjs";
import { measureGeneration } from "./generation.mjs";
import { measureProducts } from "./products.mjs";
import { runSuites } from "./suites.mjs";
import { createTimer, measureCopy, measureGap } from "./timing.mjs";
import { measureVariants } from "./variants.mjs";

const [file, size = "small", ...chosen] = process.argv.slice(2);
const SECTIONS = ["products", "generation", "codecs", "variants", "suites"];
const sections = chosen.length > 0 ? chosen : SECTIONS;
const small = size === "small"; // a software adapter: only whether it runs
const SIZES = small
  ? { copyBytes: 2 ** 22, elements: 2 ** 16, leastBytes: 2 ** 18, rounds: 2, runs: 1, rows: 4, columns: 512 }
  : {
      copyBytes: 2 ** 30,
      elements: 2 ** 26,
      leastBytes: 600e6,
      rounds: 10,
      runs: 10,
      rows: 256,
      columns: 4096,
    };
const SHAPES = small
  ? [[64, 512]]
  : [
      [4096, 14336],
      [14336, 4096],
    ];
const TYPES = ["Q4K", "Q8_0", "Q6K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2K", "Q3K", "Q5K", "Q8K"];

const start = performance.now();
const log = (line) => console.log(`${((performance.now() - start) / 1000).toFixed(1)} s  ${line}`);

const backend = await webgpu();
const report = {
  adapter: backend.adapter,
  driver: driver(),
  node: process.version,
  probe: backend.probe,
  settings: { size, sections, ...SIZES },
};
const save = () => file && writeFileSync(file, `${JSON.stringify(report, null, 1)}\n`);
log(JSON.stringify({ ...report.adapter, driver: report.driver, ...report.probe }));
await backend.dispose();

if (sections.some((section) => section !== "suites")) {
  const { device } = await requestDevice(undefined, openGpu);
  destroyAtExit(device);
  device.addEventListener?.("uncapturederror", ({ error }) => log(`device: ${error.message}`));
  const gpu = new GpuDevice(device, 2 ** 24);
  const timer = createTimer(device);
  const copy = await measureCopy(device, timer, SIZES.copyBytes, SIZES.rounds);
  report.copyGigabytesPerSecond = Math.round(copy);
  log(`copy: ${copy.toFixed(0)} GB/s`);
  save();
  if (sections.includes("products")) {
    report.products = await measureProducts(
      gpu,
      timer,
      { ...SIZES, shapes: SHAPES, types: TYPES },
      copy,
      log,
    );
    save();
  }
  if (sections.includes("generation")) {
    const gap = await measureGap(device, timer, SIZES.rounds);
    report.generation = await measureGeneration({ size, rounds: small ? 1 : 5, gap }, copy, log);
    save();
  }
  if (sections.includes("codecs")) {
    report.codecs = await measureCodecs(gpu, timer, SIZES, log);
    save();
  }
  if (sections.includes("variants")) {
    const values = makeValues(SIZES.elements);
    const put = (own) => upload(own, "values", values);
    report.variants = await measureVariants(gpu, timer, SIZES, put, log);
    save();
  }
  timer.destroy();
  gpu.dispose();
}
if (sections.includes("suites")) {
  report.suites = await runSuites(SIZES, log);
  save();
}
log("done");
const { tests, hardRows = {} } = report.suites ?? {};
const wrong = Object.values(hardRows).filter(({ difference }) => difference !== undefined);
process.exitCode = (tests?.failures.length ?? 0) + wrong.length > 0 ? 1 : 0;
for (const failure of tests?.failures ?? []) console.error(failure);

/** What the vendor's tool says of the driver, where there is one. */
function driver() {
  try {
    const query = ["--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"];
    return execFileSync("nvidia-smi", query, { encoding: "utf8" }).trim();
  } catch {
    return backend.adapter.description;
  }
}
