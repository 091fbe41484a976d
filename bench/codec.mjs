// Speed of the codecs: this package's kernels against native llama.cpp and against the TypeScript reference, one thread each.
// node bench/codec.mjs [--types Q4K,Q8_0] [--rows 4096] [--columns 4096] [--rounds 7] [--importance only|without]
//                      [--wasm FILE] [--no-reference] [--no-write]
import { parseArgs } from "node:util";
import { dequantize, quantize, TYPE_NAMES, TYPES } from "../dist/quants/index.js";
import { loadKernels } from "./lib/kernels.mjs";
import { gaussian, interleave } from "./lib/measure.mjs";
import { copyIn, copyOut, nativeCodec, reserve } from "./lib/native.mjs";
import { round, writeResults } from "./lib/results.mjs";

const { values: flags } = parseArgs({
  options: {
    types: { type: "string", default: TYPE_NAMES.filter((name) => TYPES[name].family === "block").join() },
    rows: { type: "string", default: "4096" },
    columns: { type: "string", default: "4096" },
    rounds: { type: "string", default: "7" },
    importance: { type: "string", default: "both" },
    wasm: { type: "string" },
    "no-reference": { type: "boolean", default: false },
    "no-write": { type: "boolean", default: false },
  },
});
const [rows, columns, rounds] = [flags.rows, flags.columns, flags.rounds].map(Number);
/** A sample works on one slice of the matrix, and each round on the next one. */
const SLICE = Math.min(rows, 64);
const REFERENCE_ROWS = 4;
const MILLION = 1e6;

const count = rows * columns;
const values = gaussian(count);
const importance = gaussian(columns, 7).map((v) => v * v + 0.01);
const sliceCount = SLICE * columns;
const kernel = await loadKernels(8 * count + 2 * MILLION, flags.wasm);
const at = {
  values: kernel.put(kernel.reserve(4 * count), values),
  importance: kernel.put(kernel.reserve(4 * columns), importance),
  data: kernel.reserve(2 * sliceCount),
  floats: kernel.reserve(4 * sliceCount),
};
const native = {
  values: copyIn(reserve(4 * count), values),
  importance: copyIn(reserve(4 * columns), importance),
  data: reserve(2 * sliceCount),
  floats: reserve(4 * sliceCount),
};

const sameBytes = (a, b) => Buffer.compare(a, b) === 0;

/** Walks the slices of the matrix, one per call. */
function slices() {
  let next = 0;
  return () => {
    const first = next;
    next = next + 2 * SLICE > rows ? 0 : next + SLICE;
    return 4 * first * columns;
  };
}

function measureEncoder(row, weighted) {
  const codec = nativeCodec(row);
  const encode = kernel.kernels[`${row.stem}_quantize_ggml`];
  const byteLength = (sliceCount / row.blockElements) * row.blockBytes;
  const [ours, theirs] = [weighted ? at.importance : 0, weighted ? native.importance : 0];
  const run = {
    ours: (offset) => encode(at.values + offset, ours, at.data, SLICE, columns),
    native: (offset) => codec.encode(native.values + offset, native.data, SLICE, columns, theirs),
    reference: () =>
      quantize(row.name, values.subarray(0, REFERENCE_ROWS * columns), {
        shape: [REFERENCE_ROWS, columns],
        ...(weighted && { importance }),
      }),
  };
  run.ours(0);
  run.native(0);
  const same = sameBytes(kernel.bytes(at.data, byteLength), copyOut(native.data, byteLength));
  const [forOurs, forNative] = [slices(), slices()];
  const works = { ours: () => run.ours(forOurs()), native: () => run.native(forNative()) };
  return finish(row, weighted ? "quantize, importance" : "quantize", works, run.reference, same);
}

function measureDecoder(row) {
  const { decode } = nativeCodec(row);
  const kernelDecode = kernel.kernels[`${row.stem}_dequantize`];
  const tensor = quantize(row.name, values.subarray(0, REFERENCE_ROWS * columns), {
    shape: [REFERENCE_ROWS, columns],
  });
  const works = { ours: () => kernelDecode(at.data, at.floats, sliceCount) };
  kernel.kernels[`${row.stem}_quantize_ggml`](at.values, 0, at.data, SLICE, columns);
  works.ours();
  let same;
  if (decode) {
    copyIn(native.data, kernel.bytes(at.data, (sliceCount / row.blockElements) * row.blockBytes));
    works.native = () => decode(native.data, native.floats, sliceCount);
    works.native();
    same = sameBytes(kernel.bytes(at.floats, 4 * sliceCount), copyOut(native.floats, 4 * sliceCount));
  }
  return finish(row, "dequantize", works, () => dequantize(tensor), same);
}

function finish(row, what, works, reference, same) {
  const timed = interleave(works, { rounds, least: 0.05 });
  const result = {
    type: row.name,
    what,
    oursMillionPerSecond: round(sliceCount / timed.seconds.ours / MILLION),
  };
  if (works.native) {
    result.nativeMillionPerSecond = round(sliceCount / timed.seconds.native / MILLION);
    result.oursToNative = round(timed.ratio("native", "ours"));
    result.same = same;
  }
  if (!flags["no-reference"]) {
    const { seconds } = interleave({ reference }, { rounds: 3, least: 0.05 });
    const perSecond = (REFERENCE_ROWS * columns) / seconds.reference / MILLION;
    result.referenceMillionPerSecond = round(perSecond);
    result.oursToReference = round(result.oursMillionPerSecond / perSecond);
  }
  const cell = (value, width) => String(value ?? "-").padStart(width);
  console.log(
    row.name.padEnd(5),
    what.padEnd(21),
    cell(result.oursMillionPerSecond, 7),
    cell(result.nativeMillionPerSecond, 7),
    cell(result.oursToNative, 7),
    cell(result.referenceMillionPerSecond, 7),
    cell(result.oursToReference, 7),
    same === false ? "  BYTES DIFFER" : "",
  );
  if (same === false) process.exitCode = 1;
  return result;
}

console.log("million weights per second of processor time, one thread; ratios are our speed over theirs");
console.log("type  what                     ours  native   ratio     ref   ratio");
const results = [];
for (const name of flags.types.split(",")) {
  const row = TYPES[name];
  if (flags.importance !== "only") results.push(measureEncoder(row, false));
  if (flags.importance !== "without" && row.importance.includes("ggml"))
    results.push(measureEncoder(row, true));
  results.push(measureDecoder(row));
}
if (!flags["no-write"]) {
  writeResults("codec", { rows, columns, slice: SLICE, rounds }, results, (row) => `${row.type} ${row.what}`);
}
