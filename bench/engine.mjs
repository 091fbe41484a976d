// Speed of whole models: this package with its worker threads against llama.cpp as a native library (node-llama-cpp) and as
// WebAssembly (@wllama/wllama in headless Chromium), on one file: a Llama of 200 million random weights, quantized by this
// package. Each measurement takes turns between the engines; medians and ratios are printed and written as JSON.
// npm ci --prefix bench && node bench/engine.mjs [--types Q4K,Q8_0] [--threads 1,2] [--contexts 0,512] [--prefill 128]
//   [--generate 32] [--rounds 5] [--engines isq,native,wllama] [--no-write]
import { parseArgs } from "node:util";
import { openIsq } from "./engines/isq.mjs";
import { median } from "./lib/measure.mjs";
import { countWeights, FIRST_WORD, quantizedModel } from "./lib/model.mjs";
import { round, writeResults } from "./lib/results.mjs";

const { values: flags } = parseArgs({
  options: {
    types: { type: "string", default: "Q4K,Q8_0" },
    threads: { type: "string", default: "1,2" },
    contexts: { type: "string", default: "0,512" },
    prefill: { type: "string", default: "128" },
    generate: { type: "string", default: "32" },
    rounds: { type: "string", default: "5" },
    engines: { type: "string", default: "isq,native,wllama" },
    "no-write": { type: "boolean", default: false },
  },
});
const [prefill, generate, rounds] = [flags.prefill, flags.generate, flags.rounds].map(Number);
const numbers = (list) => list.split(",").map(Number);
const engineNames = flags.engines.split(",");
const OPENERS = {
  isq: openIsq,
  native: async (...args) => (await import("./engines/native.mjs")).openNative(...args),
  wllama: async (...args) => (await import("./engines/wllama.mjs")).openWllama(...args),
};

/** Words of the synthetic vocabulary. No two seeds begin alike, so that nothing of one is in the cache of another. */
function tokensOf(count, seed) {
  return Array.from({ length: count }, (_, i) => FIRST_WORD + ((i * 977 + seed * 131 + 1) % 30000));
}

/** Takes turns between the engines; returns per measurement and engine the seconds of the clock and of processors. */
async function measureContext(engines, context) {
  const before = tokensOf(context, 0);
  for (const { engine } of engines) {
    await engine.fill(before);
    // Kernels are compiled better once they have run.
    await engine.prefill(before, tokensOf(prefill, 1 + rounds));
    await engine.fill(before);
    await engine.generate(before, 8);
  }
  const samples = { prefill: engines.map(() => []), generate: engines.map(() => []) };
  const time = async (list, engine, work) => {
    const start = await engine.processorSeconds();
    const seconds = await work();
    list.push({ seconds, processorSeconds: (await engine.processorSeconds()) - start });
  };
  for (let turn = 0; turn < rounds; turn++) {
    for (const [k, { engine }] of engines.entries()) {
      const tokens = tokensOf(prefill, 1 + turn);
      await time(samples.prefill[k], engine, () => engine.prefill(before, tokens));
      await engine.fill(before);
      await time(samples.generate[k], engine, () => engine.generate(before, generate));
    }
  }
  return samples;
}

/** Tokens per second of each engine, and this package's over the others' (medians of the ratios of neighbours). */
function summarize(engines, lists, count) {
  const tokensPerSecond = {};
  const tokensPerProcessorSecond = {};
  const ratio = {};
  const processorRatio = {};
  const own = lists[engines.findIndex(({ name }) => name === "isq")];
  for (const [k, { name }] of engines.entries()) {
    const of = (key) => lists[k].map((sample) => sample[key]);
    tokensPerSecond[name] = round(count / median(of("seconds")));
    tokensPerProcessorSecond[name] = round(count / median(of("processorSeconds")));
    if (name === "isq" || !own) continue;
    const over = (key) => round(median(lists[k].map((sample, i) => sample[key] / own[i][key])));
    ratio[name] = over("seconds");
    processorRatio[name] = over("processorSeconds");
  }
  return { tokensPerSecond, ratio, tokensPerProcessorSecond, processorRatio };
}

function print(row) {
  const cells = engineNames.map((name) => String(row.tokensPerSecond[name]).padStart(8));
  const ratios = engineNames.map((name) => String(row.ratio[name] ?? "").padStart(8));
  const byProcessor = engineNames.map((name) => String(row.processorRatio[name] ?? "").padStart(8));
  const head = [row.type.padEnd(5), row.threads, String(row.context).padStart(8), ` ${row.what.padEnd(9)}`];
  console.log([...head, ...cells, " ", ...ratios, " ", ...byProcessor].join(""));
}

console.log("tokens per second; then this package over the others, by the clock and by processor time");
console.log(`type threads context         ${engineNames.map((name) => name.padStart(8)).join("")}`);
const rows = [];
for (const type of flags.types.split(",")) {
  const path = await quantizedModel(type);
  for (const threads of numbers(flags.threads)) {
    const engines = [];
    for (const name of engineNames) {
      engines.push({ name, engine: await OPENERS[name](path, { threads, context: 1024 }) });
    }
    for (const context of numbers(flags.contexts)) {
      const samples = await measureContext(engines, context);
      for (const [what, count] of Object.entries({ prefill, generate })) {
        const row = { type, threads, context, what, ...summarize(engines, samples[what], count) };
        rows.push(row);
        print(row);
      }
    }
    for (const { engine } of engines) await engine.close();
  }
}
if (!flags["no-write"]) {
  const settings = { ...countWeights(), prefill, generate, rounds };
  writeResults("engine", settings, rows, (row) => `${row.type} ${row.threads} ${row.context} ${row.what}`);
}
process.exit(); // node-llama-cpp keeps handles
