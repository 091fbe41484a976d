/** Tensors that workers read from files themselves: the bytes of values in memory, and the errors of files. */

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { FileTensor } from "../../src/backends/backend.js";
import { type ThreadsBackend, threads } from "../../src/backends/threads.js";
import { widen } from "../../src/dense.js";
import { quantize } from "../../src/quants/index.js";
import { denseTensor } from "../suites/backend.js";
import { compareTensors } from "../suites/compare-tensors.js";
import { ENCODERS, gauss, nameOf } from "../suites/encoders.js";
import { makeImportance } from "../suites/rows.js";

const OFFSET = 1234;
const SHAPE = [70, 1280]; // more than one tile, and a short last one
const DTYPES = ["F32", "F16", "BF16"] as const;

const folder = mkdtempSync(join(tmpdir(), "isq-files-"));
const values = gauss(SHAPE[0] * SHAPE[1], 11);
let backend: ThreadsBackend;

beforeAll(async () => {
  backend = await threads({ workers: 3 });
});
afterAll(async () => {
  await backend.dispose();
  rmSync(folder, { recursive: true });
});

/** A file with other bytes around a tensor, and the tensor. */
function write(type: FileTensor["type"], source = values) {
  const tensor = denseTensor(type, source, SHAPE);
  const path = join(folder, `${type}.bin`);
  writeFileSync(path, Buffer.concat([Buffer.alloc(OFFSET, 7), tensor.data, Buffer.alloc(99, 7)]));
  return { tensor, file: { path, byteOffset: OFFSET, type, shape: SHAPE } };
}

describe.each(DTYPES)("a tensor of %s in a file", (type) => {
  it("is read as it is", async () => {
    const { tensor, file } = write(type);
    const read = await backend.readFile!(file);
    expect(read.type).toBe(type);
    expect(Buffer.compare(read.data, tensor.data)).toBe(0);
  });

  it.each(
    ENCODERS.filter(({ algorithm }) => algorithm !== "mistralrs" || type === "BF16").map(
      (e) => [nameOf(e), e] as const,
    ),
  )("is quantized as from memory: %s", async (_name, { type: to, algorithm, importance }) => {
    const { tensor, file } = write(type);
    const own = importance ? makeImportance({ kind: "squares", seed: 5 }, SHAPE[1]) : undefined;
    const options = { shape: SHAPE, algorithm, ...(own && { importance: own }) };
    const made = await backend.quantizeFile!(to, file, options);
    expect(compareTensors(made, quantize(to, widen(tensor), options))).toBeUndefined();
  });
});

describe("files that are not as they should be", () => {
  it("give the tagged error, and the pool works on", async () => {
    const broken = values.slice();
    broken[70_001] = Number.NaN;
    const { file } = write("F32", broken);
    const options = { shape: SHAPE, name: "w" };
    for (const type of ["Q4K", "HQQ8", "FP8"] as const) {
      await expect(backend.quantizeFile!(type, file, options)).rejects.toMatchObject({
        tag: "values/non-finite",
        details: { tensor: "w", index: 70_001 },
      });
    }
    const { file: short } = write("F16");
    truncateSync(short.path, 100_000);
    await expect(backend.quantizeFile!("Q4K", short, options)).rejects.toMatchObject({
      tag: "source/short",
      details: { file: short.path },
    });
    await expect(backend.readFile!(short)).rejects.toMatchObject({ tag: "source/short" });
    const missing = { ...short, path: join(folder, "missing") };
    await expect(backend.readFile!(missing)).rejects.toMatchObject({ tag: "source/open" });
    const { file: whole } = write("BF16");
    expect((await backend.quantizeFile!("Q8_0", whole, options)).data.length).toBe((values.length / 32) * 34);
  });
});
