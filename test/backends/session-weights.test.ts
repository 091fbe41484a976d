/** Weights of a running session: read back, held and swapped together, and what goes into them observed; on every backend. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Backend, DenseType, Session, Tensor } from "../../src/backends/backend.js";
import type { Batch, Program } from "../../src/backends/program.js";
import { reference } from "../../src/backends/reference.js";
import { threads } from "../../src/backends/threads.js";
import { wasm } from "../../src/backends/wasm.js";
import { narrow } from "../../src/dense.js";
import { type QuantizedTensor, quantize } from "../../src/quants/index.js";
import { compareTensors } from "../suites/compare-tensors.js";
import { ENCODERS, gauss, nameOf } from "../suites/encoders.js";
import { makeImportance } from "../suites/rows.js";

/** Rows of the matrix: no multiple of what is dealt out, so that shares differ. */
const OUTPUTS = 70;
const WIDTH = 256;
const [TABLE, NORM, MATRIX, BIAS] = [0, 1, 2, 3];

/** Token → row of a table → norm → matrix and bias. */
const PROGRAM: Program = {
  weights: [
    { name: "table", shape: [OUTPUTS, WIDTH], role: "embedding", layer: null },
    { name: "norm", shape: [WIDTH], role: "norm", layer: 0 },
    { name: "matrix", shape: [OUTPUTS, WIDTH], role: "linear", layer: 0 },
    { name: "bias", shape: [OUTPUTS], role: "bias", layer: 0 },
  ],
  slots: [
    { name: "x", width: WIDTH, rows: "tokens" },
    { name: "normed", width: WIDTH, rows: "tokens" },
    { name: "selected", width: WIDTH, rows: "outputs" },
    { name: "logits", width: OUTPUTS, rows: "outputs" },
  ],
  ropes: [],
  ops: [
    { kind: "embed", weight: TABLE, out: 0, index: "tokens" },
    { kind: "rmsNorm", x: 0, weight: NORM, out: 1, width: WIDTH, epsilon: 1e-5 },
    { kind: "select", x: 1, out: 2 },
    { kind: "linear", x: 2, weight: MATRIX, bias: BIAS, out: 3 },
  ],
  logits: 3,
  vocabulary: OUTPUTS,
  contextLength: 64,
  cacheLayers: 0,
  keyWidth: 0,
  valueWidth: 0,
};

const BACKENDS: readonly (readonly [string, () => Backend | Promise<Backend>])[] = [
  ["reference", reference],
  ["wasm", wasm],
  ...[1, 3].map((workers) => [`threads, ${workers} workers`, () => threads({ workers })] as const),
];

const dense = (values: Float32Array, shape: number[], type: DenseType = "F32"): Tensor => ({
  type,
  shape,
  data: narrow(values, type),
});
const matrixOf = (seed: number, type: DenseType = "F32") =>
  dense(gauss(OUTPUTS * WIDTH, seed), [OUTPUTS, WIDTH], type);
const quantized = (seed: number) =>
  quantize("Q4K", gauss(OUTPUTS * WIDTH, seed), { shape: [OUTPUTS, WIDTH] });

function batchOf(tokens: readonly number[]): Batch {
  const rows = Int32Array.from(tokens, (_, i) => i);
  return {
    tokens: Int32Array.from(tokens),
    positions: rows,
    sequences: new Int32Array(tokens.length),
    blockTables: [Int32Array.of(0, 1)],
    outputs: rows,
  };
}

/** Equality of dense tensors; that of the test runner takes a second for a million elements. */
function expectSame({ data, ...form }: Tensor, { data: expected, ...expectedForm }: Tensor): void {
  expect(form).toEqual(expectedForm);
  expect(Buffer.compare(data, expected)).toBe(0);
}

/** What is placed, encoded once for all backends. */
const encoded = ENCODERS.map(({ type, algorithm, importance }) => {
  const columns = makeImportance({ kind: "squares", seed: 5 }, WIDTH);
  const options = { shape: [OUTPUTS, WIDTH], algorithm, ...(importance && { importance: columns }) };
  const { reencodedBlocks: _, ...tensor } = quantize(type, gauss(OUTPUTS * WIDTH, 9), options);
  return [nameOf({ type, algorithm, importance }), tensor] as const;
});

const TOKENS = [3, 69, 0, 12, 12, 41, 7];

describe.each(BACKENDS)("weights of a session on %s", (_name, make) => {
  let backend: Backend;
  let session: Session;
  const logits = async () => (await session.run(batchOf(TOKENS))).slice();
  beforeAll(async () => {
    backend = await make();
    session = await backend.open(PROGRAM, { cachePositions: 64 });
    await session.place(TABLE, matrixOf(1));
    await session.place(NORM, dense(gauss(WIDTH, 2), [WIDTH], "BF16"));
    await session.place(MATRIX, matrixOf(3));
    await session.place(BIAS, dense(gauss(OUTPUTS, 4), [OUTPUTS]));
  });
  afterAll(() => backend?.dispose());

  it.each(encoded)("come back as they were placed: %s", async (_encoder, tensor) => {
    for (const weight of [MATRIX, TABLE]) {
      await session.place(weight, tensor);
      const back = (await session.read(weight)) as QuantizedTensor;
      expect(compareTensors(back, tensor)).toBeUndefined();
      expect({ ...back, data: 0, scales: 0, zeros: 0 }).toEqual({ ...tensor, data: 0, scales: 0, zeros: 0 });
    }
  });

  it.each(["F32", "F16", "BF16"] as const)(
    "come back as they were placed: %s; vectors as F32",
    async (type) => {
      await session.place(MATRIX, matrixOf(8, type));
      expectSame(await session.read(MATRIX), matrixOf(8, type));
      const bias = dense(gauss(OUTPUTS, 4), [OUTPUTS]);
      expectSame(await session.read(BIAS), bias);
      await expect((async () => session.read(9))()).rejects.toMatchObject({ tag: "tensor/missing" });
    },
  );

  it("wait while they are held, and come in force together or not at all", async () => {
    await session.place(MATRIX, matrixOf(20));
    await session.place(TABLE, matrixOf(21));
    const before = await logits();
    await session.hold();
    await session.place(MATRIX, quantized(99)); // placed twice: the second counts
    await session.place(MATRIX, quantized(22));
    await session.place(TABLE, quantized(23));
    await session.place(BIAS, dense(gauss(OUTPUTS, 24), [OUTPUTS]));
    expect(await logits()).toEqual(before);
    expectSame(await session.read(MATRIX), matrixOf(20));
    await expect((async () => session.hold())()).rejects.toMatchObject({ tag: "option/conflict" });
    await session.discard();
    expect(await logits()).toEqual(before);
    await expect((async () => session.commit())()).rejects.toMatchObject({ tag: "option/conflict" });

    await session.hold();
    await session.place(MATRIX, quantized(22));
    await session.place(TABLE, quantized(23));
    await session.place(BIAS, dense(gauss(OUTPUTS, 24), [OUTPUTS]));
    await session.commit();
    const together = await logits();
    expect(together).not.toEqual(before);
    await session.place(MATRIX, matrixOf(20));
    await session.place(TABLE, matrixOf(21));
    await session.place(BIAS, dense(gauss(OUTPUTS, 4), [OUTPUTS]));
    expect(await logits()).toEqual(before);
    await session.place(MATRIX, quantized(22));
    await session.place(TABLE, quantized(23));
    await session.place(BIAS, dense(gauss(OUTPUTS, 24), [OUTPUTS]));
    expect(await logits()).toEqual(together);
  });

  it("have their inputs summed up, row by row in binary64, from zero and until the end", async () => {
    const unit = new Float32Array(OUTPUTS * WIDTH);
    for (let i = 0; i < OUTPUTS; i++) unit[i * WIDTH + i] = 1;
    await session.place(MATRIX, dense(unit, [OUTPUTS, WIDTH]));
    await session.place(BIAS, dense(new Float32Array(OUTPUTS), [OUTPUTS]));
    await session.place(TABLE, matrixOf(30));
    await logits(); // not observed
    const observation = (await session.observe!(true))!;
    expect(observation.map((input) => input?.squares.length ?? 0)).toEqual([0, 0, WIDTH, 0]);
    const inputs = [await logits(), await logits()];
    await session.observe!(false);
    await logits();
    const { squares, rows } = observation[MATRIX]!;
    expect([...rows]).toEqual([2 * TOKENS.length]);
    // The matrix hands out its first inputs: their squares, in order.
    const expected = new Float64Array(OUTPUTS);
    for (const values of inputs) {
      values.forEach((value, i) => {
        expected[i % OUTPUTS] += value * value;
      });
    }
    expect([...squares.subarray(0, OUTPUTS)]).toEqual([...expected]);
    expect(squares.every((sum) => sum > 0)).toBe(true);
    const again = (await session.observe!(true))!;
    expect(again[MATRIX]!.rows[0]).toBe(0);
    await session.observe!(false);
  });
});
