/** Explains a wrong answer of a stream of vectors, whatever was asked. */

import { dequantize, quantize } from "../quants/index.js";
import { TYPES } from "../quants/table.js";
import { canonicalAnswer } from "./answers.js";
import type { VectorCase } from "./cases.js";
import { type Cause, differingBytes } from "./causes.js";
import { type BlockExplanation, explainRow, formatCause, formatExplanation } from "./explain.js";
import { type DecodeExplanation, type DotExplanation, explainDecoded, explainDot } from "./explain-decode.js";
import { floatsOf, packTensor, unpackTensor } from "./packed.js";
import type { VectorSpec } from "./spec.js";

/** HQQ and FP8: their unit is the tensor, and their encoders do not search among candidates. */
export interface TensorExplanation {
  readonly differingBytes: number;
  readonly causes: readonly Cause[];
}

/** What differs in an answer, by the kind of operation. */
export type Explanation =
  | ({ readonly of: "encode" } & BlockExplanation)
  | ({ readonly of: "tensor" } & TensorExplanation)
  | ({ readonly of: "decode" } & DecodeExplanation)
  | ({ readonly of: "dot" } & DotExplanation);

/** Undefined when the answers agree. Both have the spec's answer length. */
export function explainAnswer(
  spec: VectorSpec,
  asked: VectorCase,
  expected: Uint8Array,
  actual: Uint8Array,
): Explanation | undefined {
  const [right, given] = [canonicalAnswer(spec, expected), canonicalAnswer(spec, actual)];
  if (differingBytes(right, given) === 0) return undefined;
  const { operation, type, algorithm } = spec;
  const { parts } = asked;
  if (operation === "dot") {
    const [[e], [a]] = [floatsOf(right), floatsOf(given)];
    return { of: "dot", ...explainDot(type, algorithm, parts["weights"], parts["activations"], e, a) };
  }
  if (TYPES[type].family !== "block") return { of: "tensor", ...explainTensor(spec, asked, right, given) };
  if (operation === "decode") {
    const found = explainDecoded(type, parts["data"], floatsOf(right), floatsOf(given));
    return found && { of: "decode", ...found };
  }
  const { values, importance } = asked as { values: Float32Array; importance?: Float32Array };
  const found = explainRow({ type, algorithm, values, importance }, right, given);
  return found && { of: "encode", ...found };
}

function explainTensor(
  spec: VectorSpec,
  asked: VectorCase,
  right: Uint8Array,
  given: Uint8Array,
): TensorExplanation {
  const { operation, type, columns } = spec;
  const causes: Cause[] = [];
  for (const algorithm of TYPES[type].algorithms) {
    if (algorithm === spec.algorithm) continue;
    const answer =
      operation === "encode"
        ? packTensor(quantize(type, asked.values as Float32Array, { shape: [1, columns], algorithm }))
        : new Uint8Array(dequantize(unpackTensor(type, algorithm, columns, asked.parts["data"])).buffer);
    const unexplainedBytes = differingBytes(canonicalAnswer(spec, answer), given);
    if (unexplainedBytes === 0)
      causes.push({ cause: "other lineage", detail: `as ${algorithm} does it`, unexplainedBytes });
  }
  return { differingBytes: differingBytes(right, given), causes };
}

/** Lines of text, without indentation. */
export function explanationLines(explanation: Explanation): string[] {
  if (explanation.of === "encode") return formatExplanation(explanation);
  const causes = explanation.causes.map(formatCause);
  if (causes.length === 0) causes.push("no known cause fits");
  if (explanation.of === "tensor") return [`${explanation.differingBytes} bytes differ`, ...causes];
  const { expected, actual, ulps } = explanation;
  const values = `contract ${expected}, given ${actual}, ${ulps} ulp apart`;
  if (explanation.of === "dot") return [`${values}; in binary64 ${explanation.exact}`, ...causes];
  const { element, differingElements, code, scales, subScale, subMin } = explanation;
  const numbers = Object.entries({ ...scales, scale: subScale, min: subMin, code })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${value}`);
  return [
    `element ${element}: ${values}; ${differingElements} elements differ`,
    `from ${numbers.join(", ")}`,
    ...causes,
  ];
}
