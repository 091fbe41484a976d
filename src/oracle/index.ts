/**
 * isq/oracle: the tools that judge other quantization backends against the contract. Browser-safe: streams of vectors
 * and their judge are plain functions on bytes; the command `isq vectors` adds pipes and processes.
 */

export type { AnswerDifference } from "./answers.js";
export { compareAnswer, expectedAnswer } from "./answers.js";
export type { BlockClass, RowCounts, WorstBlock } from "./audit-rows.js";
export type {
  EncoderGuess,
  TensorAudit,
  TensorAuditOptions,
  TensorFindings,
  TensorVerdict,
} from "./audit-tensor.js";
export { auditTensor, openTensorAudit, TENSOR_VERDICTS } from "./audit-tensor.js";
export type { VectorCase } from "./cases.js";
export { inputBytes, makeCase } from "./cases.js";
export type { Cause } from "./causes.js";
export type { BlockExplanation, ElementDifference, NumberDifference, SearchReport } from "./explain.js";
export { explainRow, formatExplanation } from "./explain.js";
export type { Explanation, TensorExplanation } from "./explain-answer.js";
export { explainAnswer, explanationLines } from "./explain-answer.js";
export type { DecodeExplanation, DotExplanation } from "./explain-decode.js";
export { explainDecoded, explainDot } from "./explain-decode.js";
export type { Fault, Inspection } from "./inspect.js";
export { inspectTensor } from "./inspect.js";
export type { Finding, Judge, JudgeOptions, Verdict } from "./judge.js";
export { createJudge } from "./judge.js";
export type { BlockContent, BlockNumber } from "./layout.js";
export { readBlock } from "./layout.js";
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
