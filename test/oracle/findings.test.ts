/** The discrepancies that docs/findings.md calls reproduced, on the published library. */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { dequantize, quantize } from "../../src/quants/index.js";
import { oracleMissing } from "./ggml.js";

/** Whether the processor can run what llama.cpp has for it. */
const hasAvx2 = () => /\bavx2\b/.test(readFileSync("/proc/cpuinfo", "utf8"));

type Quantize = (x: Float32Array, y: Uint8Array, count: number) => void;

describe.skipIf(oracleMissing !== undefined)("the published library", () => {
  let bind: (library: string, name: string) => Quantize;
  let folder: string;
  beforeAll(async () => {
    const { default: koffi } = await import("koffi");
    const binaries: string = "@node-llama-cpp/linux-x64"; // has no types
    const { getBinsDir } = (await import(binaries)) as { getBinsDir(): { binsDir: string } };
    folder = join(getBinsDir().binsDir, "linux-x64");
    bind = (library, name) =>
      koffi
        .load(join(folder, `lib${library}.so`))
        .func(`void ${name}(const float *x, void *y, int64_t count)`) as Quantize;
  });

  const block = (...values: number[]) => Float32Array.from({ length: 32 }, (_, i) => values[i] ?? 0);
  const codes = (run: Quantize, x: Float32Array) => {
    const y = new Uint8Array(34);
    run(x, y, 32);
    return [...new Int8Array(y.buffer, 2, 5)];
  };

  test("Q8_0 rounds ties by machine", () => {
    const ties = block(127, 0.5, 1.5, 2.5, -0.5);
    const away = [127, 1, 2, 3, -1];
    expect(codes(bind("ggml-base", "quantize_row_q8_0_ref"), ties)).toEqual(away);
    expect(codes(bind("ggml-cpu-x64", "quantize_row_q8_0"), ties)).toEqual(away);
    expect([...new Int8Array(quantize("Q8_0", ties, { shape: [32] }).data.buffer, 2, 5)]).toEqual(away);
    if (hasAvx2())
      expect(codes(bind("ggml-cpu-haswell", "quantize_row_q8_0"), ties)).toEqual([127, 0, 2, 2, 0]);
  });

  test("a zero block of Q8_K keeps what was in memory", () => {
    const y = new Uint8Array(292).fill(0xaa);
    bind("ggml-base", "quantize_row_q8_K_ref")(new Float32Array(256), y, 256);
    expect(new Set(y.subarray(0, 260))).toEqual(new Set([0]));
    expect(new Set(y.subarray(260))).toEqual(new Set([0xaa]));
    expect(new Set(quantize("Q8K", new Float32Array(256), { shape: [256] }).data)).toEqual(new Set([0]));
  });

  test("F16 is multiplied with F16", async () => {
    const { default: koffi } = await import("koffi");
    const cpu = koffi.load(join(folder, "libggml-cpu-x64.so"));
    const traits = cpu.func("void *ggml_get_type_traits_cpu(int type)") as (type: number) => unknown;
    // Two functions, then the type of the other factor.
    const factorOf = (type: number) => koffi.decode(traits(type), 16, "int");
    const [F32, F16, Q4_0, Q8_0] = [0, 1, 2, 8];
    expect([F32, F16, Q4_0].map(factorOf)).toEqual([F32, F16, Q8_0]);
    const convert = cpu.func(
      "void ggml_cpu_fp32_to_fp16(const float *x, _Out_ uint16_t *y, int64_t count)",
    ) as (x: Float32Array, y: Uint16Array, count: number) => void;
    const halves = new Uint16Array(2);
    convert(Float32Array.of(1, 1 + 2 ** -11), halves, 2);
    expect([...halves]).toEqual([0x3c00, 0x3c00]);
  });

  test("scales overflow silently", () => {
    const y = new Uint8Array(34);
    bind("ggml-base", "quantize_row_q8_0_ref")(block(1e7), y, 32);
    expect([...y.subarray(0, 4)]).toEqual([0x00, 0x7c, 0x7f, 0x00]);
    const own = quantize("Q8_0", block(1e7), { shape: [32] });
    expect(own.data).toEqual(y);
    expect([...dequantize(own).subarray(0, 2)]).toEqual([Number.POSITIVE_INFINITY, Number.NaN]);
  });

  test.each([9, 15])("ggml_quantize_chunk stops the process on type %i", (type) => {
    const script = `
      const chunk = require("koffi").load(${JSON.stringify(join(folder, "libggml-base.so"))}).func(
        "size_t ggml_quantize_chunk(int type, const float *x, void *y, int64_t start, int64_t rows, int64_t columns, const float *importance)");
      chunk(${type}, new Float32Array(256), new Uint8Array(400), 0, 1, 256, null);`;
    const { signal, stderr } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8" });
    expect([signal, stderr]).toEqual(["SIGABRT", expect.stringContaining("GGML_ASSERT(result == nrows")]);
  });
});

test("candle's Q6_K of zeros, and importance of zero", () => {
  const zeros = quantize("Q6K", new Float32Array(256), { shape: [256], algorithm: "mistralrs" }).data;
  expect([...zeros.subarray(208)]).toEqual([0x00, 0x80]);
  expect(quantize("Q6K", new Float32Array(256), { shape: [256] }).data.every((byte) => byte === 0)).toBe(
    true,
  );
  const values = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i));
  const importance = Float32Array.from({ length: 256 }, (_, i) => (i < 16 ? 0 : 1));
  // candle's scale would be NaN: the super-block is encoded again without importance, and counted.
  const options = { shape: [256], algorithm: "mistralrs", importance } as const;
  const made = quantize("Q3K", values, options);
  expect(made.reencodedBlocks).toBe(1);
  expect(dequantize(made).every(Number.isFinite)).toBe(true);
});
