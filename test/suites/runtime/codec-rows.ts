/** The codec suite: everything golden and hard rows besides, on one implementation. */

import type { Backend, Tensor } from "../../../src/backends/backend.js";
import { narrow } from "../../../src/dense.js";
import { makeCase } from "../../../src/oracle/cases.js";
import { unpackTensor } from "../../../src/oracle/packed.js";
import { makeSpec } from "../../../src/oracle/spec.js";
import { quantize, TYPE_NAMES } from "../../../src/quants/index.js";
import type { Vectors } from "../../../src/vectors/parse.js";
import { type Codec, goldenChecks } from "../codec-checks.js";
import { ENCODERS, gauss } from "../encoders.js";
import type { Digests } from "./digest.js";

export type Multiply = (weights: Tensor, activations: Float32Array) => Promise<Float32Array> | Float32Array;

export function codecOf(backend: Backend): Codec {
  return {
    quantize: (...request) => backend.quantize(...request),
    dequantize: (tensor) => backend.dequantize(tensor),
  };
}

/** Every golden check, or one in so many: its results go into the digests. Returns what failed. */
export async function runGolden(
  codec: Codec,
  vectors: Vectors,
  digests: Digests,
  oneIn = 1,
): Promise<string[]> {
  const failures: string[] = [];
  let subject = "";
  const recording: Codec = {
    ...codec,
    async quantize(...request) {
      const tensor = await codec.quantize(...request);
      digests.tensor(`golden ${subject}`, tensor);
      return tensor;
    },
    async dequantize(tensor) {
      const values = await codec.dequantize(tensor);
      digests.floats(`golden ${subject}`, values);
      return values;
    },
    ...(codec.dot && {
      async dot(...request: Parameters<NonNullable<Codec["dot"]>>) {
        const product = (await codec.dot?.(...request)) as number;
        digests.floats(`dot ${subject}`, Float32Array.of(product));
        return product;
      },
    }),
  };
  const checks = goldenChecks(vectors, codec).filter((_, i) => i % oneIn === 0);
  for (const check of checks) {
    subject = check.subject;
    const wrong = await check.run(recording).catch((error: unknown) => `throws ${error}`);
    if (wrong) failures.push(`${check.id}: ${wrong}`);
  }
  return failures;
}

const CASES = 12;

/** Hard rows that nobody chose, encoded and decoded. */
export async function runCases(codec: Codec, digests: Digests): Promise<string[]> {
  for (const { type, algorithm, importance } of ENCODERS) {
    const spec = makeSpec({ type, algorithm, importance, seed: 7, count: CASES, columns: 512 });
    for (let i = 0; i < CASES; i++) {
      const { values, importance: own } = makeCase(spec, i);
      const options = { shape: [512], algorithm, ...(own && { importance: own }) };
      digests.tensor(`rows ${type}`, await codec.quantize(type, values as Float32Array, options));
    }
    if (importance) continue;
    const decoded = makeSpec({ operation: "decode", type, algorithm, seed: 7, count: CASES, columns: 512 });
    for (let i = 0; i < CASES; i++) {
      const tensor = unpackTensor(type, algorithm, 512, makeCase(decoded, i).parts["data"]);
      digests.floats(`rows ${type}`, await codec.dequantize(tensor));
    }
  }
  return [];
}

/** Products of every type of weight with several rows of activations. */
export async function runProducts(times: Multiply, digests: Digests): Promise<string[]> {
  const [outputs, columns, rows] = [37, 768, 5];
  const values = gauss(outputs * columns, 1);
  const activations = gauss(rows * columns, 2);
  for (const type of ["F32", "F16", "BF16"] as const) {
    const weights = { type, shape: [outputs, columns], data: narrow(values, type) };
    digests.floats(`product ${type}`, await times(weights, activations));
  }
  for (const type of TYPE_NAMES) {
    const weights = quantize(type, values, { shape: [outputs, columns] });
    digests.floats(`product ${type}`, await times(weights, activations));
  }
  return [];
}
