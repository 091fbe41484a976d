// A subject for `isq vectors`: answers with the quantizers of the folder given, until told to misbehave.
// node subject.mjs QUANTS_FOLDER [crash|hang|stop|garbage|slow-end AFTER]

import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, fault, after] = process.argv.slice(2);
const { quantize, dequantize, dot } = await import(pathToFileURL(join(folder, "index.js")).href);

const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const floats = (text) => new Float32Array(bytes(text).buffer);
const base64 = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");

const faults = {
  crash: () => process.kill(process.pid, "SIGSEGV"),
  hang: () => new Promise(() => setInterval(() => {}, 1000)),
  stop: () => process.exit(0),
  fail: () => {
    console.error("out of scratch space");
    process.exit(3);
  },
  garbage: () => console.log("\u0000\u0001 not an answer"),
};

let header;
for await (const line of createInterface({ input: process.stdin })) {
  if (!header) {
    header = JSON.parse(line);
    console.log(line);
    continue;
  }
  const asked = JSON.parse(line);
  if (fault && asked.case === Number(after)) {
    await faults[fault]();
    if (fault === "garbage") continue;
  }
  console.log(JSON.stringify({ case: asked.case, answer: base64(answer(asked)) }));
}

function answer(asked) {
  const { operation, type, algorithm, columns } = header;
  const shape = [1, columns];
  if (operation === "dot") {
    return Float32Array.of(dot(type, bytes(asked.weights), bytes(asked.activations), algorithm));
  }
  if (operation === "decode") return dequantize({ type, algorithm, shape, data: bytes(asked.data) });
  const importance = asked.importance && floats(asked.importance);
  return quantize(type, floats(asked.values), { shape, algorithm, ...(importance && { importance }) }).data;
}
