/**
 * Tagged errors. Every refusal in isq is an {@link IsqError} whose `tag` says which rule was broken and whose
 * `details` name the file, field, value and limit. Tags are public and stable; messages are for people.
 */

/** Every tag with its meaning. A new refusal is a new line here. */
export const ERROR_TAGS = {
  "type/unknown": "no quantization type has this name",
  "type/unsupported": "the type exists but cannot be used here",
  "algorithm/unknown": "the type has no encoder of this name",
  "importance/unsupported": "this type and algorithm take no importance",
  "importance/length": "the importance vector does not match the row length",
  "importance/value": "an importance value is negative, infinite or not a number",
  "shape/invalid": "a shape has a bad rank or a dimension that is not a non-negative safe integer",
  "shape/mismatch": "a shape does not match the data it describes",
  "shape/block": "the last dimension is not a multiple of the block size",
  "values/non-finite": "a weight is infinite or not a number",
  "data/length": "quantized bytes do not have the length their shape asks for",
  "option/invalid": "an option has a value outside its choices",
  "option/unsupported": "the option is known but cannot be honoured here",
  "option/conflict": "two options exclude each other",
  "source/range": "a byte range lies outside the source",
  "source/short": "a source returned fewer bytes than asked for",
  "source/open": "a file could not be opened",
  "source/read": "reading from an open source failed",
  "source/changed": "a file is no longer the one that was opened",
  "source/format": "the file is of no known format",
  "safetensors/truncated": "the file ends before its header or its data does",
  "safetensors/header-length": "the header length is zero, above the cap or beyond the file",
  "safetensors/header-json": "the header is not UTF-8 JSON of the required form",
  "safetensors/duplicate-key": "the header names a key twice",
  "safetensors/limit": "the header nests deeper, has more entries or has longer names than the caps allow",
  "safetensors/metadata": "__metadata__ is not a map of strings",
  "safetensors/dtype": "the dtype is unknown or not usable here",
  "safetensors/shape": "a tensor's shape is not a list of safe non-negative integers",
  "safetensors/offsets": "data offsets are out of order, out of range, overlapping or leave a hole",
  "safetensors/size": "shape and dtype do not give the tensor's byte range",
  "safetensors/index": "the shard index is malformed or disagrees with its shards",
  "safetensors/quantized":
    "what the metadata says of a quantized tensor is malformed or does not suit its data",
  "gguf/magic": "the file does not start as a GGUF file does",
  "gguf/version": "the file has another GGUF version than 3",
  "gguf/byte-order": "the file is big-endian",
  "gguf/truncated": "the file ends before its header or its data does",
  "gguf/count": "a count or length is beyond what the file can hold or the caps allow",
  "gguf/text": "a string is not UTF-8",
  "gguf/key": "a metadata key is empty, too long, not plain ASCII or reserved",
  "gguf/duplicate": "a metadata key or a tensor name comes twice",
  "gguf/value-type": "a metadata value has an unknown type or nests too deep",
  "gguf/value": "a metadata value does not suit its type",
  "gguf/metadata": "a metadata key is missing, or has another type or value than is needed",
  "gguf/alignment": "general.alignment is not a power of two of type u32 within the cap",
  "gguf/name": "a tensor name is empty, too long or has control characters",
  "gguf/shape": "a tensor has too many dimensions, too many elements, or rows that do not suit its type",
  "gguf/type": "a tensor type is unknown, was removed from ggml, or cannot be used here",
  "gguf/offsets": "tensor data is not aligned or overlaps other data",
  "gguf/size": "tensor data does not have the length its type and shape ask for",
  "gguf/split": "the files of a split model do not belong together",
  "uqff/version": "a UQFF file has no version, or one that is not read here",
  "uqff/format": "a UQFF layer is of an unknown or unusable format, or lacks a part that its format needs",
  "uqff/type": "a UQFF layer has an unknown type of blocks or elements",
  "uqff/size": "the data of a UQFF layer do not suit its type and shape",
  "uqff/truncated": "a UQFF layer ends before its parts do",
  "uqff/duplicate": "a layer is in two shards, or in a shard and among the other tensors",
  "uqff/residual": "the shards of a UQFF model lack the file of all other tensors",
  "uqff/layers": "numbered UQFF layers do not suit the layers of the model",
  "uqff/report": "uqff_report.json is malformed, or is not about these shards",
  "config/missing": "config.json lacks a field this architecture needs",
  "config/invalid": "a field of config.json has an impossible value",
  "architecture/unknown": "no architecture of this name is supported",
  "output/exists": "the file to write is there already",
  "output/folder": "the folder of the file to write is not there",
  "output/input": "the file to write is one of those that are read",
  "output/resume": "another file was begun under this name",
  "output/space": "the disk has no room for the file",
  "output/write": "the system refused to write, rename or sync",
  "output/verify": "the file does not have the bytes that were written to it",
  "tensor/missing": "the checkpoint lacks a tensor the architecture needs",
  "tensor/shape": "a tensor of the checkpoint has another shape than its config asks for",
  "tokenizer/missing": "the model has no tokenizer.json",
  "tokenizer/invalid": "the tokenizer or chat template could not be used",
  "prompt/empty": "there is nothing to run",
  "prompt/token": "a token id is outside the vocabulary",
  "prompt/length": "the prompt does not fit the context",
  "cache/full": "no block of the key-value cache is left for a running text",
  "imatrix/truncated": "an importance matrix ends before its entries or its trailer do",
  "imatrix/count": "a count or length is negative, zero, or more than the file or the caps can hold",
  "imatrix/name": "a tensor name is empty, not UTF-8 or has control characters",
  "imatrix/duplicate": "a tensor comes twice in an importance matrix",
  "imatrix/value": "a flag or count has an impossible value, or sums have a count of 0",
  "imatrix/tensor": "a GGUF file is no importance matrix, or its sums and counts do not suit each other",
  "imatrix/trailing": "bytes follow where an importance matrix should end",
  "imatrix/layers": "numbered entries do not suit the layers of the model",
  "topology/yaml": "a topology is not YAML of the required form: a map of selectors to maps of plain values",
  "topology/selector": "a selector is neither START-END, a layer nor /pattern/",
  "topology/layers": "a range of layers is empty, reversed or beyond the model",
  "topology/pattern": "a pattern is wrong, too long or needs more than linear time",
  "topology/field": "a rule has an unknown field, or a field without a usable value",
  "topology/device": "a rule names a device that does not exist here",
  "plan/strict": "a strict plan met a substitution",
  "plan/nothing": "quantization was requested but no tensor can be quantized",
  "reisq/failed":
    "layers of a running model kept their old weights, because something went wrong with new ones",
  "calibration/none": "no calibration was begun, or no text has run through the model since",
  "receipt/invalid": "a receipt is malformed, or says what no encoder can follow",
  "server/unreachable": "no server answers at the address",
  "server/refused": "a server did not do what it was asked for",
  "vectors/header": "a stream of vectors has no header that can be used",
  "backend/unavailable": "the backend cannot run here",
  "backend/disposed": "the backend was disposed",
  "backend/memory": "a memory of the backend is full",
  "backend/lost": "the GPU device was lost",
  "backend/device": "the GPU refused what it was asked for",
  "backend/inexact": "the arithmetic of the GPU is not the contract's",
  "backend/worker": "a worker thread died or failed",
  aborted: "the work was stopped by its AbortSignal",
} as const;

/** What is wrong, as a name that programs can compare: a key of {@link ERROR_TAGS}. */
export type ErrorTag = keyof typeof ERROR_TAGS;

/** What an error is about. Values are plain data, so that an error can cross a worker or become JSON. */
export interface ErrorDetails {
  readonly file?: string;
  readonly tensor?: string;
  readonly field?: string;
  readonly value?: unknown;
  readonly limit?: unknown;
  readonly [extra: string]: unknown;
}

/**
 * The one error that this package throws on purpose. `message` is a sentence for people; `details` names file, field,
 * value and limit.
 */
export class IsqError extends Error {
  override readonly name = "IsqError";
  readonly tag: ErrorTag;
  readonly details: ErrorDetails;

  constructor(tag: ErrorTag, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.tag = tag;
    this.details = details;
  }

  /** Without the stack, as logs and servers pass it on. */
  toJSON(): { tag: ErrorTag; message: string; details: ErrorDetails } {
    return { tag: this.tag, message: this.message, details: this.details };
  }
}

/** True when `error` is an {@link IsqError}, of the given tag if one is named. */
export function isIsqError(error: unknown, tag?: ErrorTag): error is IsqError {
  return error instanceof IsqError && (tag === undefined || error.tag === tag);
}

/** Throws an `aborted` error once the signal has fired. Long work calls this between tensors and between rows. */
export function checkAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted)
    throw new IsqError("aborted", "the work was aborted", { reason: String(signal.reason) });
}
