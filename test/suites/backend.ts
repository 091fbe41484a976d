/** The contract of a backend, on the implementation given: the reference's bytes and bits for whatever it is asked. */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Backend, DenseTensor, Tensor } from "../../src/backends/backend.js";
import { reference } from "../../src/backends/reference.js";
import { bfloatFromFloat, halfFromFloat } from "../../src/numerics.js";
import {
  dequantize,
  type IsqType,
  type QuantizedTensor,
  type QuantizeOptions,
  quantize,
  TYPE_NAMES,
  TYPES,
} from "../../src/quants/index.js";
import { compareFloats } from "./compare.js";
import { compareTensors, tensorRecipes } from "./compare-tensors.js";
import { ENCODERS, type Encoder, gauss, nameOf } from "./encoders.js";
import { fillRow, type ImportanceRecipe, importanceRecipe, makeImportance, SEED, SLOW } from "./rows.js";

export interface BackendSuiteOptions {
  /** fast-check runs per encoder. */
  readonly runs: number;
  /** Larger tensors are left out; none are when absent. */
  readonly mostElements?: number;
  /** Undefined when products are as they should be; the reference's bits when absent. */
  readonly compareProducts?: ProductComparison;
}

export type ProductComparison = (
  actual: Float32Array,
  expected: Float32Array,
  weights: Tensor,
  activations: Float32Array,
) => string | undefined;

const DENSE = ["F32", "F16", "BF16"] as const;

export function denseTensor(type: DenseTensor["type"], values: Float32Array, shape: number[]): DenseTensor {
  if (type === "F32") return { type, shape, data: new Uint8Array(values.slice().buffer) };
  const narrow = type === "F16" ? halfFromFloat : bfloatFromFloat;
  return { type, shape, data: new Uint8Array(Uint16Array.from(values, narrow).buffer) };
}

export function backendSuite(
  name: string,
  make: () => Backend | Promise<Backend>,
  {
    runs,
    mostElements = Number.POSITIVE_INFINITY,
    compareProducts = (actual, expected) => compareFloats(actual, expected),
  }: BackendSuiteOptions,
): void {
  describe(`backend ${name}`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await make();
    });
    afterAll(() => backend?.dispose());
    const limits = { seed: SEED, numRuns: SLOW ? 20 * runs : runs };

    it.each(ENCODERS.map((encoder) => [nameOf(encoder), encoder] as const))(
      "any rows: %s",
      async (_name, { type, algorithm, importance }) => {
        const weights: fc.Arbitrary<ImportanceRecipe | undefined> = importance
          ? importanceRecipe
          : fc.constant(undefined);
        const property = fc.asyncProperty(
          tensorRecipes(type),
          weights,
          async ({ recipes, shape }, recipe) => {
            const values = new Float32Array(shape[0] * shape[1]);
            fillRow(recipes, values);
            const own = recipe && makeImportance(recipe, shape[1]);
            const options = { shape, algorithm, ...(own && { importance: own }) };
            const expected = quantize(type, values, options);
            expect(compareTensors(await backend.quantize(type, values, options), expected)).toBeUndefined();
            const decoded = await backend.dequantize(expected);
            expect(compareFloats(decoded, dequantize(expected))).toBeUndefined();
          },
        );
        await fc.assert(property, limits);
      },
    );

    // One block; a tile and a block; 1 MiB and a short last tile; rows that end inside of a tile.
    it.each(ENCODERS.map((encoder) => [nameOf(encoder), encoder] as const))(
      "sizes from a block to beyond 1 MiB: %s",
      async (_name, encoder) => {
        const { type } = encoder;
        const block = Math.max(64, TYPES[type].blockElements);
        for (const [rows, width] of [
          [1, block],
          [1, 65536 + block],
          [37, 3 * 768],
          [1, 2 ** 18 + 3 * block],
        ]) {
          // The searches of the reference take seconds for 1 MiB, and meet nothing new there.
          if (width > 2 ** 18 && TYPES[type].family === "block" && block === 256) continue;
          if (rows * width > mostElements) continue;
          const { values, options, expected, decoded } = expectedOf(encoder, rows, width);
          expect(compareTensors(await backend.quantize(type, values, options), expected)).toBeUndefined();
          expect(compareFloats(await backend.dequantize(expected), decoded)).toBeUndefined();
        }
      },
    );

    const blocks = ENCODERS.filter(({ type }) => TYPES[type].family === "block");
    it.each(blocks.map((encoder) => [nameOf(encoder), encoder] as const))(
      "rows in pieces of any size are the rows of the whole: %s",
      async (_name, encoder) => {
        const { values, options, expected } = expectedOf(encoder, 37, 3 * 768);
        const width = 3 * 768;
        const rowBytes = expected.data.length / 37;
        for (const piece of [5, 36]) {
          const parts: Uint8Array[] = [];
          for (let row = 0; row < 37; row += piece) {
            const part = values.subarray(row * width, Math.min(37, row + piece) * width);
            const shape = [part.length / width, width];
            parts.push((await backend.quantize(encoder.type, part, { ...options, shape })).data);
          }
          expect(Buffer.concat(parts).equals(expected.data), `${piece} rows of ${rowBytes} bytes`).toBe(true);
        }
      },
    );

    it.each([...DENSE, ...TYPE_NAMES])("matrix products: %s", async (type) => {
      const sizes = fc.record({
        outputs: fc.integer({ min: 1, max: 40 }),
        rows: fc.constantFrom(1, 2, 3, 4, 5, 9),
        blocks: fc.integer({ min: 1, max: 7 }),
        seed: fc.nat(),
      });
      const property = fc.asyncProperty(sizes, async ({ outputs, rows, blocks, seed }) => {
        const width = blocks * widthOf(type);
        const values = gauss(outputs * width, seed);
        const x = gauss(rows * width, seed + 1);
        for (const weights of weightsOf(type, values, [outputs, width])) {
          const expected = await reference().matmul(weights, x);
          const actual = await backend.matmul(weights, x);
          expect(compareProducts(actual, expected, weights, x)).toBeUndefined();
        }
      });
      // More rows of activations than a kernel takes at a time, more blocks likewise, outputs that are no multiple of anything.
      const long = { outputs: 13, rows: 37, blocks: 11, seed: 1 };
      await fc.assert(property, {
        ...limits,
        numRuns: Math.ceil(limits.numRuns / 3),
        examples: [[long]],
      });
    });

    it("refuses a weight that is no number, with the first one's place", async () => {
      const values = gauss(3 * 65536, 1);
      values[150_000] = Number.NaN;
      values[70_000] = Number.POSITIVE_INFINITY;
      for (const type of ["Q4K", "Q8_0", "HQQ4", "FP8"] as const) {
        await expect(
          (async () => backend.quantize(type, values, { shape: [3, 65536], name: "w" }))(),
        ).rejects.toMatchObject({ tag: "values/non-finite", details: { tensor: "w", index: 70_000 } });
      }
      const again = await backend.quantize("Q8_0", values.subarray(0, 64), { shape: [64] });
      expect(
        compareTensors(again, quantize("Q8_0", values.subarray(0, 64), { shape: [64] })),
      ).toBeUndefined();
    });

    it("checks at the door as the reference does", async () => {
      const values = gauss(256, 1);
      const tagOf = async (run: () => unknown) => {
        try {
          await run();
        } catch (error) {
          return (error as { tag?: string }).tag;
        }
        return "none";
      };
      expect(await tagOf(() => backend.quantize("Q4K", values, { shape: [2, 128] }))).toBe("shape/block");
      expect(await tagOf(() => backend.quantize("Q9" as IsqType, values, { shape: [256] }))).toBe(
        "type/unknown",
      );
      const importance = new Float32Array(255);
      expect(await tagOf(() => backend.quantize("Q4K", values, { shape: [256], importance }))).toBe(
        "importance/length",
      );
      const tensor = quantize("Q4K", values, { shape: [256] });
      expect(await tagOf(() => backend.dequantize({ ...tensor, data: tensor.data.subarray(1) }))).toBe(
        "data/length",
      );
      expect(await tagOf(() => backend.matmul(tensor, values.subarray(1)))).toBe("shape/mismatch");
      expect((await backend.quantize("Q4K", new Float32Array(0), { shape: [0, 256] })).data).toHaveLength(0);
      expect(
        await backend.matmul(quantize("Q4K", new Float32Array(0), { shape: [0, 256] }), values),
      ).toHaveLength(0);
    });
  });
}

interface Expected {
  readonly values: Float32Array;
  readonly options: QuantizeOptions;
  readonly expected: QuantizedTensor;
  readonly decoded: Float32Array;
}

/** Made once for all implementations that a test file runs. */
const made = new Map<string, Expected>();

function expectedOf(encoder: Encoder, rows: number, width: number): Expected {
  const key = `${nameOf(encoder)} ${rows} ${width}`;
  const known = made.get(key);
  if (known) return known;
  const { type, algorithm, importance } = encoder;
  const values = gauss(rows * width, rows);
  const own = importance ? makeImportance({ kind: "squares", seed: width }, width) : undefined;
  const options = { shape: [rows, width], algorithm, ...(own && { importance: own }) };
  const expected = quantize(type, values, options);
  const entry = { values, options, expected, decoded: dequantize(expected) };
  made.set(key, entry);
  return entry;
}

function widthOf(type: string): number {
  if (type === "FP8" || DENSE.includes(type as "F32")) return 61;
  return type.startsWith("HQQ") ? 64 : TYPES[type as IsqType].blockElements;
}

/** The weights under every layout that the type has. */
function weightsOf(type: string, values: Float32Array, shape: number[]): Tensor[] {
  if (DENSE.includes(type as "F32")) return [denseTensor(type as "F32", values, shape)];
  const { family, algorithms } = TYPES[type as IsqType];
  const layouts = family === "group" ? algorithms : algorithms.slice(0, 1);
  return layouts.map((algorithm) => quantize(type, values, { shape, algorithm }));
}
