/**
 * isq/oracle: the tools that judge other quantization backends against the contract. Browser-safe: streams of vectors
 * and their judge are plain functions on bytes; the command `isq vectors` adds pipes and processes.
 */

export type { AnswerDifference } from "./answers.js";
export { compareAnswer, expectedAnswer } from "./answers.js";
export type { VectorCase } from "./cases.js";
export { inputBytes, makeCase } from "./cases.js";
export type { Cause } from "./causes.js";
export type { BlockExplanation, ElementDifference, NumberDifference, SearchReport } from "./explain.js";
export { explainRow, formatExplanation } from "./explain.js";
export type { Explanation, TensorExplanation } from "./explain-answer.js";
export { explainAnswer, explanationLines } from "./explain-answer.js";
export type { DecodeExplanation, DotExplanation } from "./explain-decode.js";
export { explainDecoded, explainDot } from "./explain-decode.js";
export type { Finding, Judge, JudgeOptions, Verdict } from "./judge.js";
export { createJudge } from "./judge.js";
export { packTensor, unpackTensor } from "./packed.js";
export type { Operation, SpecOptions, VectorSpec } from "./spec.js";
export { answerByteLength, inputByteLengths, makeSpec, OPERATIONS } from "./spec.js";
export { formatVerdict } from "./verdict-text.js";
export type { StreamFormat } from "./wire.js";
export {
  parseBinaryHeader,
  parseHeaderLine,
  STREAM_FORMATS,
  writeAnswer,
  writeCase,
  writeHeader,
} from "./wire.js";
