/** The golden set as a list of checks on any implementation. Free of the test runner, so that any runtime can run it. */

import {
  type Algorithm,
  type DotOrder,
  type IsqType,
  type QuantizedTensor,
  type QuantizeOptions,
  TYPES,
} from "../../src/quants/index.js";
import type { GoldenCase, GoldenDot, GoldenTensor, Lineage, Vectors } from "../../src/vectors/parse.js";
import { loadTraps, type Trap } from "../../src/vectors/traps.js";
import { compareBytes, compareDecoded, compareFloats, compareWords } from "./compare.js";

type Awaitable<T> = T | Promise<T>;

/** Number formats, array by array. */
export interface Conversions {
  halves(values: Float32Array): Awaitable<Uint16Array>;
  bfloats(values: Float32Array): Awaitable<Uint16Array>;
  fromHalves(halves: Uint16Array): Awaitable<Float32Array>;
  fromBfloats(bfloats: Uint16Array): Awaitable<Float32Array>;
  fromE4m3(codes: Uint8Array): Awaitable<Float32Array>;
}

/** What the suite needs of an implementation. Absent parts are not checked, and not counted. */
export interface Codec {
  quantize(type: IsqType, values: Float32Array, options: QuantizeOptions): Awaitable<QuantizedTensor>;
  dequantize(tensor: QuantizedTensor): Awaitable<Float32Array>;
  /** Orders that `dot` can; both when absent. */
  dotOrders?: readonly DotOrder[];
  dot?(type: IsqType, weights: Uint8Array, activations: Uint8Array, order: DotOrder): Awaitable<number>;
  convert?: Conversions;
  dispose?(): Awaitable<void>;
}

export interface Check {
  /** The row and column of the table of counts. */
  readonly subject: string;
  readonly kind: string;
  readonly id: string;
  /** Undefined when the implementation agrees, else what is wrong. */
  run(codec: Codec): Promise<string | undefined>;
}

/** Every golden check that this implementation can take. */
export function goldenChecks(vectors: Vectors, codec: Codec): Check[] {
  return [
    ...vectors.cases.map(checkCase),
    ...vectors.blocks.map(checkBlocks),
    ...vectors.tensors.map(checkTensor),
    ...loadTraps().map(checkTrap),
    ...(codec.dot
      ? vectors.dots.flatMap((golden) => checkDots(golden, codec.dotOrders ?? ["ggml", "mistralrs"]))
      : []),
    ...(codec.convert ? checkConversions(vectors) : []),
  ];
}

/** The observed bytes for NaN and infinities. */
export function nonFiniteChecks(vectors: Vectors): Check[] {
  return vectors.nonFinite.map((observed) => ({
    subject: observed.type,
    kind: `raw ${observed.algorithm}`,
    id: observed.id,
    async run(codec) {
      const { type, values, data } = observed;
      const tensor = await codec.quantize(type, values, { ...optionsOf(observed), nonFinite: "raw" });
      return compareBytes(type, tensor.data, data);
    },
  }));
}

function optionsOf({
  shape,
  algorithm,
  importance,
}: Pick<GoldenCase, "shape" | "algorithm" | "importance">): QuantizeOptions {
  return { shape, algorithm, ...(importance && { importance }) };
}

function checkCase(golden: GoldenCase): Check {
  const { type, algorithm, shape, data } = golden;
  return {
    subject: type,
    kind: golden.importance ? `${algorithm} importance` : algorithm,
    id: golden.id,
    async run(codec) {
      const tensor = await codec.quantize(type, golden.values, optionsOf(golden));
      const wrong = compareBytes(type, tensor.data, data) ?? wrongLabel(tensor, type, algorithm, shape);
      if (wrong || !golden.decoded) return wrong;
      return compareDecoded(await codec.dequantize({ type, algorithm, shape, data }), golden.decoded);
    },
  };
}

function wrongLabel(
  tensor: QuantizedTensor,
  type: IsqType,
  algorithm: Algorithm,
  shape: readonly number[],
): string | undefined {
  const expected = `${type} ${algorithm} [${shape}]`;
  const actual = `${tensor.type} ${tensor.algorithm} [${tensor.shape}]`;
  return actual === expected ? undefined : `labelled ${actual}, not ${expected}`;
}

function checkBlocks({ type, data, decoded }: Vectors["blocks"][number]): Check {
  return {
    subject: type,
    kind: "raw blocks",
    id: `${type} raw blocks`,
    async run(codec) {
      for (const algorithm of TYPES[type].algorithms) {
        const values = await codec.dequantize({ type, algorithm, shape: [decoded.length], data });
        const wrong = compareFloats(values, decoded, algorithm);
        if (wrong) return wrong;
      }
      return undefined;
    },
  };
}

function checkTrap({ type, trap, values, data }: Trap, index: number): Check {
  return {
    subject: type,
    kind: "traps",
    id: `${type} trap ${index}: ${trap}`,
    async run(codec) {
      const tensor = await codec.quantize(type, values, { shape: [values.length], algorithm: "ggml" });
      return compareBytes(type, tensor.data, data);
    },
  };
}

function checkTensor(golden: GoldenTensor): Check {
  const { type, algorithm, shape } = golden;
  return {
    subject: type,
    kind: algorithm,
    id: golden.id,
    async run(codec) {
      const tensor = await codec.quantize(type, golden.values, { shape, algorithm });
      const wrong = compareBytes(type, tensor.data, golden.data) ?? compareSides(tensor, golden);
      if (wrong) return wrong;
      const { id: _id, values: _values, decoded, ...parts } = golden;
      return compareFloats(await codec.dequantize(parts), decoded);
    },
  };
}

/** Scales and zeros of HQQ, the two scales of FP8. */
function compareSides(tensor: QuantizedTensor, golden: GoldenTensor): string | undefined {
  for (const side of ["scales", "zeros"] as const) {
    const expected = golden[side];
    const actual = tensor[side];
    if (!actual !== !expected) return `${side} ${expected ? "missing" : "unexpected"}`;
    const wrong = actual && expected && compareFloats(actual, expected, side);
    if (wrong) return wrong;
  }
  for (const side of ["quantizeScale", "dequantizeScale"] as const) {
    if (!Object.is(tensor[side], golden[side])) return `${side} is ${tensor[side]}, not ${golden[side]}`;
  }
  return undefined;
}

function checkDots(golden: GoldenDot, orders: readonly DotOrder[]): Check[] {
  const { type, rows, weights, activations } = golden;
  const row = (bytes: Uint8Array, r: number) =>
    bytes.subarray((r * bytes.length) / rows, ((r + 1) * bytes.length) / rows);
  const check = (order: Lineage, r: number): Check => ({
    subject: type,
    kind: `dot ${order}`,
    id: `${type} dot ${order} row ${r}`,
    async run(codec) {
      const result = await codec.dot?.(type, row(weights, r), row(activations, r), order);
      return compareFloats(
        Float32Array.of(result as number),
        golden.expected[order].subarray(r, r + 1),
        "dot",
      );
    },
  });
  return [...Array(rows).keys()].flatMap((r) => orders.map((order) => check(order, r)));
}

function checkConversions({ conversions, e4m3 }: Vectors): Check[] {
  const { values, halves, bfloats, allHalves, allBfloats } = conversions;
  const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const codes = Uint8Array.from({ length: 256 }, (_, i) => i);
  const check = (id: string, compare: (c: Conversions) => Promise<string | undefined>): Check => ({
    subject: "conversions",
    kind: "all",
    id,
    run: (codec) => compare(codec.convert as Conversions),
  });
  return [
    check("f32 to f16", async (c) => compareWords(await c.halves(values), halves, "half")),
    check("f32 to bf16", async (c) => compareWords(await c.bfloats(values), bfloats, "bfloat")),
    check("f16 to f32", async (c) => compareDecoded(await c.fromHalves(patterns), { sha256: allHalves })),
    check("bf16 to f32", async (c) => compareDecoded(await c.fromBfloats(patterns), { sha256: allBfloats })),
    check("E4M3 to f32", async (c) => compareFloats(await c.fromE4m3(codes), e4m3)),
  ];
}
