// The suites of the tests on this machine's adapter: models, the golden set, random rows, hard rows. Every call of a codec or
// a product runs twice and is compared with itself first.
import { wasm } from "../../src/backends/wasm.ts";
import { asCodec, compareProducts, openTwice } from "../../test/gpu.ts";
import { backendSuite } from "../../test/suites/backend.ts";
import { codecSuite } from "../../test/suites/codec.ts";
import { ENCODERS, nameOf } from "../../test/suites/encoders.ts";
import { compareHardRows } from "../../test/suites/hard-rows.ts";
import { runAll } from "./runner.mjs";

/** Not run from a bundle, which has no files for worker threads. */
const NEEDS_FILES = /worker threads/;

/** `runs` of fast-check per encoder, and `rows` hard rows of 4096 elements. */
export async function runSuites({ runs, rows, columns }, log) {
  const backend = await openTwice();
  await import("../../test/backends/webgpu-models.test.ts"); // define their tests
  await import("../../test/backends/webgpu-fused.test.ts");
  await import("../../test/backends/webgpu-ahead.test.ts");
  const shared = { ...backend, dispose: () => {} };
  codecSuite("webgpu", () => asCodec(shared));
  backendSuite("webgpu", () => shared, { runs, mostElements: 70_000, compareProducts });
  const { passed, failures, skipped } = await runAll(log, NEEDS_FILES);
  log(`suites: ${passed} passed, ${failures.length} failed`);
  const hard = await runHardRows(backend, { rows, columns }, log);
  await backend.dispose();
  return { tests: { passed, failures, skipped }, hardRows: hard };
}

/** Against WebAssembly, which every test run compares with the reference. */
async function runHardRows(backend, { rows, columns }, log) {
  const expected = await wasm();
  const quantize = (type, values, options) => expected.quantize(type, values, options);
  const result = {};
  for (const encoder of ENCODERS) {
    const count = encoder.type.startsWith("HQQ") || encoder.type === "FP8" ? Math.ceil(rows / 8) : rows;
    const own = await compareHardRows(backend, quantize, encoder, { seed: 20261124, rows: count, columns });
    result[nameOf(encoder)] = own;
    if (own.difference !== undefined) log(`${nameOf(encoder)}: ${own.difference}`);
  }
  await expected.dispose();
  return result;
}
