/** Explanations of decoded values and dot products: which element, from which numbers, and which known cause fits. */

import { f32, floatFromHalf, halfFromFloat } from "../numerics.js";
import { type Algorithm, type DotOrder, dequantize, dot } from "../quants/index.js";
import { type IsqType, TYPES } from "../quants/table.js";
import { fusedMultiplyAdd } from "./arithmetic.js";
import { type Cause, otherOrders } from "./causes.js";
import { type BlockContent, type Layout, layoutOf, readBlock } from "./layout.js";
import { ulpsBetween } from "./trace.js";

/** Where decoded values first differ, and what they are made of. */
export interface DecodeExplanation {
  /** In the row. */
  readonly element: number;
  readonly block: number;
  readonly expected: number;
  readonly actual: number;
  readonly ulps: number;
  readonly differingElements: number;
  /** The numbers that make the element. */
  readonly code: number;
  readonly scales: Readonly<Record<string, number>>;
  readonly subScale?: number;
  readonly subMin?: number;
  readonly causes: readonly Cause[];
}

const same = (a: number, b: number): boolean => Object.is(a, b) || (Number.isNaN(a) && Number.isNaN(b));

const countDifferent = (a: Float32Array, b: Float32Array): number =>
  a.reduce((count, v, i) => count + (same(v, b[i]) ? 0 : 1), 0);

/** Explains the first wrong value of a decoded row of a block type; undefined when there is none. */
export function explainDecoded(
  type: IsqType,
  data: Uint8Array,
  expected: Float32Array,
  actual: Float32Array,
): DecodeExplanation | undefined {
  const element = expected.findIndex((v, i) => !same(v, actual[i]));
  if (element < 0) return undefined;
  const { blockElements, blockBytes } = TYPES[type];
  const b = Math.floor(element / blockElements);
  const i = element - b * blockElements;
  const block = data.subarray(b * blockBytes, (b + 1) * blockBytes);
  const content = readBlock(type, block);
  const j = Math.floor(i / (layoutOf(type) as Layout).subElements);
  const [right, given] = [expected, actual].map((all) =>
    all.slice(b * blockElements, (b + 1) * blockElements),
  );
  return {
    element,
    block: b,
    expected: expected[element],
    actual: actual[element],
    ulps: ulpsBetween(expected[element], actual[element]),
    differingElements: countDifferent(expected, actual),
    code: content.codes[i].value,
    scales: content.scales,
    ...(content.subScales[j] && { subScale: content.subScales[j].value }),
    ...(content.subMins[j] && { subMin: content.subMins[j].value }),
    causes: decodeCauses(type, block, content, right, given),
  };
}

function decodeCauses(
  type: IsqType,
  block: Uint8Array,
  content: BlockContent,
  right: Float32Array,
  given: Float32Array,
): Cause[] {
  const decode = (data: Uint8Array) => dequantize({ type, algorithm: "ggml", shape: [right.length], data });
  const tries: { cause: Cause["cause"]; detail: string; values: Float32Array }[] = [
    {
      cause: "fused multiply-add",
      detail: "of the product and the minimum",
      values: decodeBy(type, content, (d, s, q, low) => fusedMultiplyAdd(f32(d * s), q, low)),
    },
    {
      cause: "other order of steps",
      detail: "d·(scale·code)",
      values: decodeBy(type, content, (d, s, q, low) => f32(f32(d * f32(s * q)) + low)),
    },
    {
      cause: "subnormal scales taken as zero",
      detail: "binary16 below 2^-14",
      values: decode(withoutSubnormals(type, block)),
    },
  ];
  for (const { cause, detail, block: other } of otherOrders({ type }, block)) {
    tries.push({ cause, detail, values: decode(other) });
  }
  return tries
    .filter(({ values }) => countDifferent(values, given) === 0)
    .map(({ cause, detail }) => ({ cause, detail, unexplainedBytes: 0 }));
}

/** The block's values by another formula of d, sub-block scale, code and what is added in the end. */
function decodeBy(
  type: IsqType,
  { scales, subScales, subMins, codes }: BlockContent,
  formula: (d: number, scale: number, code: number, low: number) => number,
): Float32Array {
  const { subElements } = layoutOf(type) as Layout;
  const m = TYPES[type].fields.some(({ name }) => name === "m") ? scales["m"] : 0;
  return Float32Array.from(codes, ({ value }, i) => {
    const j = Math.floor(i / subElements);
    const low = subMins.length > 0 ? -f32(scales["dmin"] * subMins[j].value) : m;
    return formula(scales["d"], subScales[j]?.value ?? 1, value, low);
  });
}

function withoutSubnormals(type: IsqType, block: Uint8Array): Uint8Array {
  const out = block.slice();
  for (const { kind, offset } of TYPES[type].fields) {
    if (kind !== "f16") continue;
    if ((out[offset + 1] & 0x7c) === 0) {
      out[offset] = 0;
      out[offset + 1] &= 0x80;
    }
  }
  return out;
}

/** How a dot product differs. */
export interface DotExplanation {
  readonly expected: number;
  readonly actual: number;
  readonly ulps: number;
  /** In binary64 from the decoded rows: what both approximate. */
  readonly exact: number;
  readonly causes: readonly Cause[];
}

/** Explains a dot product. */
export function explainDot(
  type: IsqType,
  algorithm: Algorithm,
  weights: Uint8Array,
  activations: Uint8Array,
  expected: number,
  actual: number,
): DotExplanation {
  const decode = (name: IsqType, data: Uint8Array): Float32Array => {
    const { blockBytes, blockElements } = TYPES[name];
    return dequantize({
      type: name,
      algorithm: "ggml",
      shape: [(data.length / blockBytes) * blockElements],
      data,
    });
  };
  const [w, x] = [decode(type, weights), decode(TYPES[type].dotPartner as IsqType, activations)];
  const exact = w.reduce((sum, v, i) => sum + v * x[i], 0);
  const other: DotOrder = algorithm === "ggml" ? "mistralrs" : "ggml";
  const tries: [Cause["cause"], string, number][] = [
    ["other lineage", `added in ${other}'s order`, dot(type, weights, activations, other)],
    [
      "other order of steps",
      "decoded rows multiplied in binary32",
      w.reduce((sum, v, i) => f32(sum + f32(v * x[i])), 0),
    ],
    ["fused multiply-add", "over decoded rows", w.reduce((sum, v, i) => fusedMultiplyAdd(v, x[i], sum), 0)],
    ["other order of steps", "decoded rows multiplied in binary64", f32(exact)],
    ["other order of steps", "the result rounded to binary16", floatFromHalf(halfFromFloat(expected))],
  ];
  const causes = tries
    .filter(([, , value]) => same(value, actual))
    .map(([cause, detail]) => ({ cause, detail, unexplainedBytes: 0 }));
  return { expected, actual, ulps: ulpsBetween(expected, actual), exact, causes };
}
