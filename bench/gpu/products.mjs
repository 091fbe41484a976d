// Matrix times vector on weights that are on the GPU: many distinct matrices one after the other, so that no cache holds
// them, timed by GPU timestamps around all of them.

import { wasm } from "../../src/backends/wasm.ts";
import { dispatch, USAGE } from "../../src/backends/webgpu-device.ts";
import { placeWeight } from "../../src/backends/webgpu-linear.ts";
import { parameterWords, setParameters, upload } from "../../src/backends/webgpu-run.ts";
import { TYPES } from "../../src/quants/table.ts";

const DISTINCT_ROWS = 64; // and again and again: what is in them costs no time on a GPU, encoding them would here
const round = (value) => Number(value.toPrecision(4));

export async function measureProducts(gpu, timer, { shapes, types, leastBytes, rounds }, copy, log) {
  const rows = [];
  for (const type of types) {
    for (const [outputs, columns] of shapes) {
      rows.push(await measureProduct(gpu, timer, { type, outputs, columns, leastBytes, rounds }, copy));
      log(JSON.stringify(rows.at(-1)));
    }
  }
  return rows;
}

export async function measureProduct(gpu, timer, { type, outputs, columns, leastBytes, rounds }, copy) {
  const { device } = gpu;
  const encoder = await wasm();
  const values = Float32Array.from({ length: DISTINCT_ROWS * columns }, (_, i) => Math.sin(i * 1.7) * 0.03);
  const rows = encoder.quantize(type, values, {
    shape: [DISTINCT_ROWS, columns],
    algorithm: TYPES[type].algorithms[0],
  });
  encoder.dispose();
  const data = new Uint8Array((rows.data.length / DISTINCT_ROWS) * outputs);
  for (let at = 0; at < data.length; at += rows.data.length)
    data.set(rows.data.subarray(0, data.length - at), at);
  const tensor = { ...rows, data, shape: [outputs, columns] };
  const first = await gpu.exclusively(() => placeWeight(gpu, tensor));
  const bytes = first.buffer.size;
  const count = Math.max(2, Math.ceil(leastBytes / bytes));
  const weights = [first.buffer];
  const make = (size, usage) => device.createBuffer({ size, usage });
  while (weights.length < count) {
    const { buffer } = await gpu.exclusively(() => placeWeight(gpu, tensor));
    weights.push(buffer);
  }
  const words = parameterWords({ ...first.parameters, count: columns, rows: 1 });
  const uniform = make(words.byteLength, USAGE.UNIFORM | USAGE.COPY_DST);
  device.queue.writeBuffer(uniform, 0, words);
  const x = Float32Array.from({ length: columns }, (_, i) => Math.sin(i * 0.7));
  setParameters(gpu, { count: columns });
  upload(gpu, "values", x);
  gpu.buffer("result", columns);
  gpu.buffer("scratch", columns / 4);
  const prepare = await gpu.pipeline({ type: first.partner, entryPoint: "prepare" });
  await timer.time((pass) => {
    pass.setPipeline(prepare);
    pass.setBindGroup(0, gpu.bindKept());
    dispatch(pass, columns / 4, 256);
  });
  const pipeline = await gpu.pipeline({ type, entryPoint: "matvec", layout: "linear" });
  const groups = weights.map((weight) => {
    const sums = make(4 * outputs, USAGE.STORAGE);
    const buffers = [uniform, gpu.buffer("result", 64), weight, gpu.buffer("scratch", 64), sums];
    return { sums, group: gpu.bind("linear", buffers) };
  });
  const seconds = await timer.best((pass) => {
    pass.setPipeline(pipeline);
    for (const { group } of groups) {
      pass.setBindGroup(0, group);
      dispatch(pass, Math.ceil(outputs / 4) * 128, 128);
    }
  }, rounds);
  for (const buffer of [...weights, uniform, ...groups.map(({ sums }) => sums)]) buffer.destroy();
  const gigabytes = (count * bytes) / seconds / 1e9;
  return {
    type,
    outputs,
    columns,
    matrices: count,
    megabytes: round((count * bytes) / 1e6),
    microsecondsEach: round((1e6 * seconds) / count),
    gigabytesPerSecond: round(gigabytes),
    shareOfCopyBandwidth: round(gigabytes / copy),
  };
}
