// Speed of the matrix products: one row of activations (generation) and many (prefill), against the dot products of native
// llama.cpp for AVX2 and for this machine's best instruction set, one thread each. Native multiplies row by row here, which
// is what its generation does; for many rows its library has blocked kernels of its own, measured by engine.mjs.
// node bench/matmul.mjs [--types Q4K,Q8_0] [--outputs 4096] [--width 4096] [--batches 1,64,256] [--rounds 7] [--no-native]
//                       [--no-write]
import { parseArgs } from "node:util";
import { wasm } from "../dist/backends/wasm.js";
import { Banks, MOST_BANK_BYTES } from "../dist/backends/wasm-bank.js";
import { freeRows, placeRows } from "../dist/backends/wasm-linear.js";
import { multiplyRows } from "../dist/backends/wasm-product.js";
import { TYPE_NAMES, TYPES } from "../dist/quants/index.js";
import { gaussian, interleave } from "./lib/measure.mjs";
import { copyIn, koffi, open } from "./lib/native.mjs";
import { round, writeResults } from "./lib/results.mjs";

const { values: flags } = parseArgs({
  options: {
    types: { type: "string", default: TYPE_NAMES.filter((name) => TYPES[name].dotPartner).join() },
    outputs: { type: "string", default: "4096" },
    width: { type: "string", default: "4096" },
    batches: { type: "string", default: "1,64,256" },
    rounds: { type: "string", default: "7" },
    "no-native": { type: "boolean", default: false },
    "no-write": { type: "boolean", default: false },
  },
});
const [outputs, width, rounds] = [flags.outputs, flags.width, flags.rounds].map(Number);
const batches = flags.batches.split(",").map(Number);
const most = Math.max(...batches);
/** Instruction sets of the native library: AVX2, and what this machine has. */
const SETS = ["haswell", "zen4"];

const banks = await Banks.open(MOST_BANK_BYTES);
const backend = await wasm();

let Params;

/** ggml's own matrix product, activations quantized inside, as its graph computes it with one thread. */
function nativeProduct(row, set, batch, weights, activations) {
  const base = open("libggml-base.so");
  const cpu = open(`libggml-cpu-${set}.so`);
  Params ??= koffi.struct({ size: "size_t", buffer: "void *", noAlloc: "bool" });
  const init = base.func("ggml_init", "uintptr_t", [Params]);
  const tensor = base.func(
    "uintptr_t ggml_new_tensor_2d(uintptr_t context, int type, int64_t columns, int64_t rows)",
  );
  const dataOf = base.func("uintptr_t ggml_get_data(uintptr_t tensor)");
  const product = base.func("uintptr_t ggml_mul_mat(uintptr_t context, uintptr_t a, uintptr_t b)");
  const graphOf = base.func("uintptr_t ggml_new_graph(uintptr_t context)");
  const expand = base.func("void ggml_build_forward_expand(uintptr_t graph, uintptr_t tensor)");
  const open1 = cpu.func("uintptr_t ggml_backend_cpu_init()");
  const setThreads = cpu.func("void ggml_backend_cpu_set_n_threads(uintptr_t backend, int threads)");
  const compute = base.func("int ggml_backend_graph_compute(uintptr_t backend, uintptr_t graph)");

  const F32 = 0;
  const size = weights.length + 4 * batch * (width + outputs) + (1 << 20);
  const context = init({ size, buffer: null, noAlloc: false });
  const w = tensor(context, row.ggml.id, width, outputs);
  const x = tensor(context, F32, width, batch);
  copyIn(dataOf(w), weights);
  copyIn(dataOf(x), activations.subarray(0, batch * width));
  const y = product(context, w, x);
  const graph = graphOf(context);
  expand(graph, y);
  const backend = open1();
  setThreads(backend, 1);
  return () => {
    if (compute(backend, graph) !== 0) throw new Error("ggml failed");
  };
}

/** Billions of products per second: one multiplication and one addition each. */
async function measure(name) {
  const row = TYPES[name];
  const weights = backend.quantize(name, gaussian(outputs * width), { shape: [outputs, width] });
  const placed = await placeRows(banks, weights, 0, outputs);
  const activations = gaussian(most * width, 5);
  const out = new Float32Array(most * outputs);
  const bring = (first, count, bank, stage) => {
    bank.floats.set(activations.subarray(first * width, (first + count) * width), stage / 4);
    return stage;
  };
  const store = (r, first, values) => out.set(values, r * outputs + first);
  const result = { type: name, matvecGigabytesPerSecond: 0 };
  for (const batch of batches) {
    const works = { ours: () => multiplyRows(placed, { count: batch, bring }, { store }) };
    if (!flags["no-native"] && !["Q8_1", "Q8K"].includes(name)) {
      for (const set of SETS) works[set] = nativeProduct(row, set, batch, weights.data, activations);
    }
    const { seconds, ratio } = interleave(works, { rounds, least: 0.05 });
    const speed = (who) => round((outputs * width * batch) / seconds[who] / 1e9);
    result[`rows${batch}`] = Object.fromEntries(Object.keys(works).map((who) => [who, speed(who)]));
    for (const set of SETS.filter((set) => works[set]))
      result[`rows${batch}`][`oursTo_${set}`] = round(ratio(set, "ours"));
    if (batch === 1) result.matvecGigabytesPerSecond = round(weights.data.length / seconds.ours / 1e9);
  }
  freeRows(placed);
  const cells = batches.flatMap((batch) => {
    const cell = result[`rows${batch}`];
    return ["ours", ...SETS, ...SETS.map((set) => `oursTo_${set}`)].map((key) => cell[key] ?? "-");
  });
  console.log(
    [name, result.matvecGigabytesPerSecond, ...cells].map((value) => String(value).padStart(8)).join(""),
  );
  return result;
}

console.log(
  "billion products (a multiplication and an addition) per second of processor time, one thread, activations quantized",
);
const head = batches.flatMap((batch) => [`ours ${batch}`, ...SETS, ...SETS.map(() => "ratio")]);
console.log(["type", "GB/s", ...head].map((title) => title.padStart(8)).join(""));
const results = [];
for (const name of flags.types.split(",")) results.push(await measure(name));
if (!flags["no-write"]) writeResults("matmul", { outputs, width, rounds }, results, (row) => row.type);
