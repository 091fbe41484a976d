/** The SIMD kernels against the reference on any rows: fast-check prints the seed of a failure (ISQ_SEED repeats it). */

import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { bfloatFromFloat, floatFromBfloat, floatFromHalf, halfFromFloat } from "../../src/numerics.js";
import {
  type Algorithm,
  dequantize,
  dot,
  type IsqType,
  type QuantizedTensor,
  quantize,
  TYPE_NAMES,
  TYPES,
} from "../../src/quants/index.js";
import type { Codec } from "../suites/codec-checks.js";
import { compareBytes, compareFloats } from "../suites/compare.js";
import {
  fillRow,
  type ImportanceRecipe,
  importanceRecipe,
  makeImportance,
  randomFrom,
  rowRecipe,
  SEED,
  SLOW,
} from "../suites/rows.js";
import { Areas, type Kernels, kernelCodec, loadKernels } from "./kernels.js";

const RUNS = { seed: SEED, numRuns: SLOW ? 5000 : 100 };

const ENCODERS = TYPE_NAMES.flatMap((type) =>
  TYPES[type].algorithms.flatMap((algorithm) => [
    { type, algorithm, importance: false },
    ...(TYPES[type].importance.includes(algorithm) ? [{ type, algorithm, importance: true }] : []),
  ]),
);

let kernels: Kernels;
let codec: Codec;
beforeAll(async () => {
  kernels = await loadKernels();
  codec = kernelCodec(kernels);
});

/** Rows × blocks of any recipes, one to a block. */
function tensors(type: IsqType) {
  const elements = Math.max(TYPES[type].blockElements, 32);
  return fc
    .record({ rows: fc.integer({ min: 1, max: 4 }), blocks: fc.integer({ min: 1, max: 9 }) })
    .chain(({ rows, blocks }) =>
      fc.array(rowRecipe, { minLength: rows * blocks, maxLength: rows * blocks }).map((recipes) => {
        // Printed as recipes when a property fails; the values are made when it runs.
        return { recipes, shape: [rows, blocks * elements] };
      }),
    );
}

/** The sign of a computed NaN is not defined, in JavaScript either: only scales that are NaN lose theirs. */
function withoutNanSigns(type: IsqType, bytes: Uint8Array): Uint8Array {
  const { blockBytes, fields, family } = TYPES[type];
  const out = bytes.slice();
  for (const { offset, kind } of family === "block" ? fields : []) {
    if (kind !== "f16") continue;
    for (let at = offset; at < out.length; at += blockBytes) {
      if ((out[at + 1] & 0x7c) === 0x7c && ((out[at + 1] & 3) | out[at]) !== 0) out[at + 1] &= 0x7f;
    }
  }
  return out;
}

/** The parts of a tensor that are bytes or floats. */
function compareTensors(actual: QuantizedTensor, expected: QuantizedTensor): string | undefined {
  const floats = (tensor: QuantizedTensor): Float32Array =>
    Float32Array.of(
      ...(tensor.scales ?? []),
      ...(tensor.zeros ?? []),
      tensor.quantizeScale ?? 0,
      tensor.dequantizeScale ?? 0,
      tensor.reencodedBlocks ?? 0,
    );
  return (
    compareBytes(
      expected.type,
      withoutNanSigns(expected.type, actual.data),
      withoutNanSigns(expected.type, expected.data),
    ) ?? compareFloats(floats(actual), floats(expected), "side")
  );
}

describe("the kernels give the reference's", () => {
  const name = (e: { type: string; algorithm: string; importance: boolean }) =>
    `bytes: ${e.type} ${e.algorithm}${e.importance ? " with importance" : ""}`;
  it.each(ENCODERS.map((encoder) => [name(encoder), encoder] as const))("%s", async (_name, encoder) => {
    const { type, algorithm } = encoder;
    const importance: fc.Arbitrary<ImportanceRecipe | undefined> = encoder.importance
      ? importanceRecipe
      : fc.constant(undefined);
    const property = fc.asyncProperty(tensors(type), importance, async ({ recipes, shape }, recipe) => {
      const values = new Float32Array(shape[0] * shape[1]);
      fillRow(recipes, values);
      const weights = recipe && makeImportance(recipe, shape[1]);
      const options = { shape, algorithm, ...(weights && { importance: weights }) };
      const expected = quantize(type, values, options);
      expect(compareTensors(await codec.quantize(type, values, options), expected)).toBeUndefined();
      expect(compareFloats(await codec.dequantize(expected), dequantize(expected))).toBeUndefined();
    });
    await fc.assert(property, RUNS);
  });

  const multiplied = TYPE_NAMES.filter((type) => TYPES[type].dotPartner !== null);
  it.each(multiplied)("matrix products: %s", (type) => {
    const partner = TYPES[type].dotPartner as IsqType;
    const sizes = fc.record({
      outputs: fc.integer({ min: 1, max: 5 }),
      rows: fc.integer({ min: 1, max: 9 }),
      blocks: fc.integer({ min: 1, max: 70 }),
      seed: fc.nat(),
    });
    const property = fc.property(sizes, ({ outputs, rows, blocks, seed }) => {
      const width = blocks * TYPES[type].blockElements;
      const weights = encodeGauss(type, outputs, width, seed);
      const activations = encodeGauss(partner, rows, width, seed + 1);
      const expected = new Float32Array(rows * outputs);
      const row = (bytes: Uint8Array, r: number, count: number) =>
        bytes.subarray((r * bytes.length) / count, ((r + 1) * bytes.length) / count);
      for (let r = 0; r < rows; r++) {
        for (let o = 0; o < outputs; o++) {
          expected[r * outputs + o] = dot(type, row(weights, o, outputs), row(activations, r, rows));
        }
      }
      const areas = new Areas(kernels);
      const out = areas.reserve(4 * rows * outputs);
      const [w, a] = [areas.put(weights), areas.put(activations)];
      kernels.call(`${TYPES[type].stem}_matmul`, w, a, out, outputs, rows, width, outputs);
      expect(compareFloats(areas.floats(out, rows * outputs), expected)).toBeUndefined();
    });
    fc.assert(property, { ...RUNS, numRuns: SLOW ? 500 : 20 });
  });

  it.each(["F32", "F16", "BF16", "FP8", "HQQ4", "HQQ8"])("matrix products of decoded %s", async (type) => {
    const sizes = fc.record({
      outputs: fc.integer({ min: 1, max: 5 }),
      rows: fc.integer({ min: 1, max: 9 }),
      width: fc.integer({ min: 1, max: 40 }),
      seed: fc.nat(),
    });
    const property = fc.asyncProperty(sizes, async ({ outputs, rows, width: units, seed }) => {
      const width = type.startsWith("HQQ") ? 64 * units : 61 * units;
      const source = gauss(outputs * width, seed);
      const x = gauss(rows * width, seed + 1);
      const algorithms: readonly Algorithm[] = type.startsWith("HQQ") ? ["mistralrs", "hqq"] : ["ocp"];
      for (const algorithm of algorithms) {
        const areas = new Areas(kernels);
        const out = areas.reserve(4 * rows * outputs);
        const at = areas.put(x);
        const values = await placeDecoded(type, algorithm, source, [outputs, width], areas, [
          at,
          out,
          outputs,
          rows,
          width,
          outputs,
        ]);
        const expected = new Float32Array(rows * outputs);
        for (let r = 0; r < rows; r++) {
          for (let o = 0; o < outputs; o++) {
            const [a, b] = [values, x].map((m, i) =>
              m.subarray((i ? r : o) * width, ((i ? r : o) + 1) * width),
            );
            expected[r * outputs + o] = eightLanes(a, b);
          }
        }
        expect(compareFloats(areas.floats(out, rows * outputs), expected)).toBeUndefined();
      }
    });
    await fc.assert(property, { ...RUNS, numRuns: SLOW ? 300 : 15 });
  });
});

/** Places weights of a decoded type, multiplies, and returns what the weights decode to. */
async function placeDecoded(
  type: string,
  algorithm: Algorithm,
  source: Float32Array,
  shape: number[],
  areas: Areas,
  rest: number[],
): Promise<Float32Array> {
  if (type === "F32") {
    kernels.call("f32_matmul", areas.put(source), ...rest);
    return source;
  }
  if (type === "F16" || type === "BF16") {
    const half = type === "F16";
    const words = Uint16Array.from(source, half ? halfFromFloat : bfloatFromFloat);
    kernels.call(half ? "f16_matmul" : "bf16_matmul", areas.put(words), ...rest);
    return Float32Array.from(words, half ? floatFromHalf : floatFromBfloat);
  }
  const tensor = quantize(type, source, { shape, algorithm });
  const data = areas.put(tensor.data);
  if (type === "FP8") kernels.call("fp8_matmul", data, tensor.dequantizeScale as number, ...rest);
  else {
    const [scales, zeros] = [tensor.scales, tensor.zeros].map((side) => areas.put(side as Float32Array));
    const name = `${type.toLowerCase()}_matmul_${algorithm}`;
    kernels.call(name, data, scales, zeros, source.length / 64, 0, ...rest);
  }
  return dequantize(tensor);
}

function gauss(count: number, seed: number): Float32Array {
  const random = randomFrom(seed);
  return Float32Array.from({ length: count }, () => random.gauss() * 0.05);
}

function encodeGauss(type: IsqType, rows: number, width: number, seed: number): Uint8Array {
  return quantize(type, gauss(rows * width, seed), { shape: [rows, width] }).data;
}

/** The dot of program.ts, plainly. */
function eightLanes(a: Float32Array, b: Float32Array): number {
  const lanes = new Float32Array(8);
  for (let i = 0; i < a.length; i++) lanes[i & 7] = Math.fround(lanes[i & 7] + Math.fround(a[i] * b[i]));
  return lanes.reduce((sum, lane) => Math.fround(sum + lane));
}
