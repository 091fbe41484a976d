import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DenseTensor } from "../../src/backends/backend.js";
import { multiply, reference } from "../../src/backends/reference.js";
import { dot, dotFour, softmax } from "../../src/backends/reference-kernels.js";
import { isIsqError } from "../../src/errors.js";
import { bfloatFromFloat, f32, halfFromFloat } from "../../src/numerics.js";
import { dequantize, dot as integerDot, quantize } from "../../src/quants/index.js";
import { TABLE, TYPES } from "../../src/quants/table.js";

/** A dot by the words of ops.ts, lane by lane. */
function lanes(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const sums = new Float32Array(8);
  for (let i = 0; i < a.length; i++) sums[i % 8] = f32(sums[i % 8] + f32(a[i] * b[i]));
  return sums.reduce((total, sum) => f32(total + sum));
}

const floats = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + seed) * 2 + (i % 37 === 0 ? 5 : 0));

function makeDense(type: DenseTensor["type"], values: Float32Array, shape: number[]): DenseTensor {
  if (type === "F32") return { type, shape, data: new Uint8Array(values.slice().buffer) };
  const narrow = type === "F16" ? halfFromFloat : bfloatFromFloat;
  return { type, shape, data: new Uint8Array(Uint16Array.from(values, narrow).buffer) };
}

describe("the eight-lane dot", () => {
  test("follows its words for any length, alone and in fours", () => {
    const vectors = fc.integer({ min: 0, max: 70 }).chain((length) =>
      fc.array(fc.float32Array({ minLength: length, maxLength: length, noNaN: true, min: -1e6, max: 1e6 }), {
        minLength: 5,
        maxLength: 5,
      }),
    );
    const property = fc.property(vectors, ([a, ...rows]) => {
      const expected = rows.map((row) => lanes(a, row));
      const packed = Float32Array.from(rows.flatMap((row) => [7, ...row]));
      const out = new Float32Array(8);
      dotFour(a, 0, packed, 1, a.length + 1, a.length, out, 1, 2);
      expect([1, 3, 5, 7].map((i) => out[i])).toEqual(expected);
      expect(rows.map((_, r) => dot(a, 0, packed, r * (a.length + 1) + 1, a.length))).toEqual(expected);
    });
    fc.assert(property, { numRuns: 500 });
  });
});

test("softmax sums to one, and a large score leaves nothing for the others", () => {
  const scores = floats(100, 3);
  softmax(scores, 100);
  expect(Math.abs(scores.reduce((a, b) => a + b) - 1)).toBeLessThan(1e-6);
  const peaked = Float32Array.of(0, 1000, -1000);
  softmax(peaked, 3);
  expect([...peaked]).toEqual([0, 1, 0]);
});

describe("matmul", () => {
  const [outputs, columns, rows] = [3, 512, 6];
  const weights = floats(outputs * columns, 1);
  const x = floats(rows * columns, 2);
  const each = (dotOf: (output: number, row: number) => number) =>
    Float32Array.from({ length: rows * outputs }, (_, i) => dotOf(i % outputs, Math.floor(i / outputs)));
  const rowOf = (values: Float32Array, row: number) => values.subarray(row * columns, (row + 1) * columns);

  test.each(TABLE.filter(({ dotPartner }) => dotPartner !== null).map(({ name }) => name))(
    "%s: integer dots with quantized activations",
    (type) => {
      const tensor = quantize(type, weights, { shape: [outputs, columns] });
      const rowBytes = (columns / TYPES[type].blockElements) * TYPES[type].blockBytes;
      const partner = TYPES[type].dotPartner!;
      const prepared = Array.from(
        { length: rows },
        (_, r) => quantize(partner, rowOf(x, r), { shape: [columns] }).data,
      );
      const expected = each((o, r) =>
        integerDot(type, tensor.data.subarray(o * rowBytes, (o + 1) * rowBytes), prepared[r]),
      );
      expect(reference().matmul(tensor, x)).toEqual(expected);
    },
  );

  test.each(["HQQ4", "HQQ8", "FP8"] as const)("%s: eight-lane dots of the decoded weights", (type) => {
    const tensor = quantize(type, weights, { shape: [outputs, columns] });
    const decoded = dequantize(tensor);
    expect(reference().matmul(tensor, x)).toEqual(each((o, r) => lanes(rowOf(decoded, o), rowOf(x, r))));
  });

  test.each(["F32", "F16", "BF16"] as const)("%s: eight-lane dots of the widened weights", async (type) => {
    const tensor = makeDense(type, weights, [outputs, columns]);
    const widened = await reference().dequantize(tensor);
    const expected = each((o, r) => lanes(rowOf(widened, o), rowOf(x, r)));
    expect(multiply(tensor, x)).toEqual(expected);
    const shifted = new Uint8Array(tensor.data.length + 1);
    shifted.set(tensor.data, 1);
    expect(multiply({ ...tensor, data: shifted.subarray(1) }, x)).toEqual(expected);
  });

  test("refuses activations that are not whole rows, and bytes that do not fit the shape", () => {
    const tensor = makeDense("BF16", weights, [outputs, columns]);
    const tagOf = (run: () => unknown) => {
      try {
        run();
        return "none";
      } catch (error) {
        return isIsqError(error) ? error.tag : String(error);
      }
    };
    expect(tagOf(() => multiply(tensor, x.subarray(1)))).toBe("shape/mismatch");
    expect(tagOf(() => multiply({ ...tensor, data: tensor.data.subarray(2) }, x))).toBe("data/length");
    const backend = reference();
    backend.dispose();
    expect(tagOf(() => backend.matmul(tensor, x))).toBe("backend/disposed");
  });
});
