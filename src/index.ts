/**
 * isq: in-situ quantization for JavaScript runtimes. This file only re-exports; the list is frozen by a test. Importing
 * it loads no module of any runtime: files, threads and GPUs are reached when they are asked for.
 */

export type { AuditedFile, AuditOptions, AuditReport, TensorReport as TensorAuditReport } from "./audit.js";
export { audit } from "./audit.js";
export type { Backend, BackendName, DenseTensor, DenseType, Session, Tensor } from "./backends/backend.js";
export type { BackendChoice, OpenBackendOptions } from "./backends/open.js";
export { BACKEND_CHOICES, openBackend } from "./backends/open.js";
export { reference } from "./backends/reference.js";
export {
  type CalibrationProgress,
  type CollectedImportance,
  type CollectOptions,
  encodeImatrix,
  imatrixFormatOf,
  type WritableImatrixFormat,
} from "./calibrate.js";
export type { WorkOptions } from "./calibrated-load.js";
export { type Chunk, type ChunkOptions, chunkTokens } from "./chunks.js";
export { type DivergenceResult, klDivergence, measureDivergence, quantile } from "./divergence.js";
export type { ErrorDetails, ErrorTag } from "./errors.js";
export { ERROR_TAGS, IsqError, isIsqError } from "./errors.js";
export type { Checkpoint } from "./files/checkpoint.js";
export { type Directory, fromFiles } from "./files/directory.js";
export { fromUrl } from "./files/http-source.js";
export type { Imatrix, ImatrixEntry, ImatrixFormat } from "./files/imatrix.js";
export { openImatrix, writeCimatrix, writeImatrixGguf, writeLegacyImatrix } from "./files/imatrix.js";
export type { ByteSource } from "./files/source.js";
export { fromBlob, fromBytes } from "./files/source.js";
export { type Importance, importanceEntries, matchImportance } from "./importance.js";
export { type InputFile, readImatrix, readTopologyFile } from "./inputs.js";
export { type OpenedModel, openModel } from "./load.js";
export type { ChunkResult, Measurable, MeasureOptions, PerplexityResult } from "./measure.js";
export { measurePerplexity, tokenLosses } from "./measure.js";
export { ARCHITECTURE_NAMES } from "./model/architectures/index.js";
export type { NamePattern } from "./pattern.js";
export { compilePattern } from "./pattern.js";
export type { AlgorithmChoice, Plan, PlanRequest, PlanRow, PlanTotals } from "./plan.js";
export { ALGORITHM_CHOICES, plan } from "./plan.js";
export type { Organization } from "./plan-rules.js";
export { ORGANIZATIONS } from "./plan-rules.js";
export { formatTopology, type ModelPart, type PartOption, type Proposal, proposeTypes } from "./propose.js";
export type { QuantizeProgress, QuantizeReport, TensorReport } from "./quantize.js";
export { quantizeModel } from "./quantize.js";
export type { Algorithm, IsqType, QuantizedTensor, QuantizeOptions } from "./quants/index.js";
export { bitsPerWeight, dequantize, parseType, quantize, TYPE_NAMES, TYPES } from "./quants/index.js";
export type { ReIsqFailure, ReIsqOptions, ReIsqOrigin, ReIsqProgress, ReIsqReport } from "./re-isq.js";
export type { HashedRange, OutputFile, Receipt, ReceiptRequest, ReceiptTensor } from "./receipt.js";
export { formatReceipt, makeReceipt, parseReceipt } from "./receipt.js";
export type { OutputPlace } from "./receipt-places.js";
export { ggufPlaces } from "./receipt-places.js";
export type { Check, TensorCheck, VerifyOptions } from "./receipt-verify.js";
export { verifyReceipt } from "./receipt-verify.js";
export type { CostReport, CostRow } from "./report/html.js";
export { COST_COLUMNS, renderCostPage } from "./report/html.js";
export { formatPlan } from "./report/plan-text.js";
export { formatTable } from "./report/text.js";
export type { Generated, GenerateRequest, Piece, Prompt } from "./run.js";
export { TextModel } from "./run.js";
export type {
  ChatCompletion,
  ChatCompletionRequest,
  GgufModel,
  PlainModel,
  RunnerOptions,
  WhichModel,
} from "./runner.js";
export { Runner, Which } from "./runner.js";
export type {
  SensitivityOptions,
  SensitivityProgress,
  SensitivityResult,
  UniformResult,
} from "./sensitivity.js";
export { type ErrorLayout, type TensorError, tensorError } from "./tensor-error.js";
export { TextModelBuilder } from "./text-model-builder.js";
export type { Device, TopologyRule } from "./topology.js";
export { DEVICE_CHOICES } from "./topology.js";
export type { CalibrationReport, CalibrationStatus } from "./weights.js";
