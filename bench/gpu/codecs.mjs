// Speed of the codec kernels on data that is on the GPU: values read, blocks written, by GPU timestamps.
import { dispatch } from "../../src/backends/webgpu-device.ts";
import { constantsOf, planOf } from "../../src/backends/webgpu-encode.ts";
import { setParameters, upload } from "../../src/backends/webgpu-run.ts";
import { TYPES } from "../../src/quants/table.ts";
import { ENCODERS } from "../../test/suites/encoders.ts";

const WIDTH = 4096;
const round = (value) => Number(value.toPrecision(4));

/** Normal values of standard deviation 0.02, the same every time; a table, because there are many. */
export function makeValues(count) {
  const values = new Float32Array(count);
  let state = 1;
  const table = new Float32Array(65536);
  for (let i = 0; i < table.length; i++) {
    let sum = 0;
    for (let k = 0; k < 12; k++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      sum += state / 2 ** 32;
    }
    table[i] = 0.02 * (sum - 6);
  }
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = table[state >>> 16] * (1 + (state & 0xff) / 65536);
  }
  return values;
}

/** One row per encoder of a block type, and one per decoder. */
export async function measureCodecs(gpu, timer, { elements, rounds }, log) {
  const values = makeValues(elements);
  const importance = Float32Array.from({ length: WIDTH }, (_, i) => 0.5 + (i % 7) / 8);
  upload(gpu, "values", values);
  const rows = [];
  for (const { type, algorithm, importance: weighted } of ENCODERS) {
    if (TYPES[type].family !== "block") continue;
    const job = { type, algorithm, count: elements, width: WIDTH, ...(weighted && { importance }) };
    rows.push(await measureEncoder(gpu, timer, job, rounds));
    log(JSON.stringify(rows.at(-1)));
  }
  for (const { name, family } of Object.values(TYPES)) {
    if (family !== "block") continue;
    rows.push(await measureDecoder(gpu, timer, name, elements, rounds));
    log(JSON.stringify(rows.at(-1)));
  }
  for (const { name, family, algorithms } of Object.values(TYPES)) {
    for (const algorithm of family === "block" ? [] : algorithms) {
      rows.push(await measureTensorCodec(gpu, timer, { type: name, algorithm, elements, rounds }));
      log(JSON.stringify(rows.at(-1)));
    }
  }
  return rows;
}

/** The kernels of FP8 and HQQ; HQQ's ten rounds without what the host adds up between them. */
async function measureTensorCodec(gpu, timer, { type, algorithm, elements, rounds }) {
  const hqq = type !== "FP8";
  const groups = elements / 64;
  const bytes = type === "HQQ4" ? elements / 2 : elements;
  gpu.buffer("scratch", 12 * groups);
  gpu.buffer("result", bytes);
  gpu.buffer("report", 8 + groups / 8);
  setParameters(gpu, { count: elements, groups, factor: 0.0003 });
  const constants = hqq
    ? { contiguous: algorithm === "hqq" ? 1 : 0 }
    : { mistralrs: algorithm === "mistralrs" ? 1 : 0 };
  const kernels = hqq
    ? { begin: [groups, 64, 1], move_zeros: [groups, 64, 10], finish: [bytes / 4, 256, 1] }
    : { find_peak: [elements / 32, 256, 1], quantize: [elements / 4, 256, 1] };
  const milliseconds = {};
  let whole = 0;
  for (const [entryPoint, [threads, groupThreads, times]] of Object.entries(kernels)) {
    const pipeline = await gpu.pipeline({ type, entryPoint, constants });
    const seconds = await timer.best((pass) => {
      pass.setBindGroup(0, gpu.bindKept());
      pass.setPipeline(pipeline);
      dispatch(pass, threads, groupThreads);
    }, rounds);
    milliseconds[entryPoint] = round(1e3 * seconds);
    whole += times * seconds;
  }
  return {
    kernel: "quantize",
    type,
    algorithm,
    gigaweightsPerSecond: round(elements / whole / 1e9),
    gigabytesPerSecond: round((4 * elements + bytes) / whole / 1e9),
    millisecondsOfKernels: milliseconds,
  };
}

export async function measureEncoder(gpu, timer, job, rounds) {
  const { type, algorithm, count } = job;
  const { kernels, scratchWords, ...places } = planOf(job, count);
  const { blockElements, blockBytes } = TYPES[type];
  const bytes = (count / blockElements) * blockBytes;
  gpu.buffer("scratch", 4 * scratchWords);
  gpu.buffer("result", bytes);
  gpu.buffer("report", 8 + count / blockElements / 8);
  if (job.importance) upload(gpu, "words", job.importance);
  setParameters(gpu, { count, width: job.width, ...places });
  const constants = constantsOf(job);
  const pipelines = await Promise.all(
    kernels.map(({ entryPoint }) => gpu.pipeline({ type, entryPoint, constants })),
  );
  const group = gpu.bindKept();
  const seconds = {};
  const run = (chosen) => (pass) => {
    pass.setBindGroup(0, group);
    for (const i of chosen) {
      pass.setPipeline(pipelines[i]);
      dispatch(pass, kernels[i].threads, kernels[i].groupThreads);
    }
  };
  const whole = await timer.best(run([...kernels.keys()]), rounds);
  for (const [i, { entryPoint }] of kernels.entries())
    seconds[entryPoint] = await timer.best(run([i]), rounds);
  return {
    kernel: "quantize",
    type,
    algorithm,
    importance: job.importance !== undefined,
    gigaweightsPerSecond: round(count / whole / 1e9),
    gigabytesPerSecond: round((4 * count + bytes) / whole / 1e9),
    millisecondsOfKernels: Object.fromEntries(
      Object.entries(seconds).map(([name, s]) => [name, round(1e3 * s)]),
    ),
  };
}

async function measureDecoder(gpu, timer, type, elements, rounds) {
  const { blockElements, blockBytes } = TYPES[type];
  const bytes = (elements / blockElements) * blockBytes;
  gpu.buffer("words", bytes);
  gpu.buffer("result", 4 * elements);
  gpu.buffer("report", 8 + elements / blockElements / 8);
  setParameters(gpu, { count: elements });
  const pipeline = await gpu.pipeline({ type, entryPoint: "dequantize" });
  const group = gpu.bindKept();
  const seconds = await timer.best((pass) => {
    pass.setBindGroup(0, group);
    pass.setPipeline(pipeline);
    dispatch(pass, elements / 4, 256);
  }, rounds);
  return {
    kernel: "dequantize",
    type,
    gigaweightsPerSecond: round(elements / seconds / 1e9),
    gigabytesPerSecond: round((4 * elements + bytes) / seconds / 1e9),
  };
}
