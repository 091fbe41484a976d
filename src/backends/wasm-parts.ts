/** What the two WebAssembly backends, alone and in threads, have in common at their doors. */

import { IsqError } from "../errors.js";
import { type IsqType, TYPES } from "../quants/table.js";
import { type QuantizedTensor, type QuantizeOptions, rowElements } from "../quants/tensor.js";
import type { Tensor } from "./backend.js";
import type { EncodeResult } from "./encode-job.js";
import { checkParts } from "./reference-linear.js";
import { MOST_BANK_BYTES } from "./wasm-bank.js";
import { voteCount } from "./wasm-encode.js";

const PAGE = 65536;
const LEAST_MEMORY = 16 * 2 ** 20;

/** Throws `option/invalid`. */
export function checkMemoryLimit(byteLength: number): number {
  if (byteLength >= LEAST_MEMORY && byteLength <= MOST_BANK_BYTES && byteLength % PAGE === 0)
    return byteLength;
  const message = `memoryByteLength must be a multiple of ${PAGE} from ${LEAST_MEMORY} to ${MOST_BANK_BYTES}, not ${byteLength}`;
  throw new IsqError("option/invalid", message, {
    field: "memoryByteLength",
    value: byteLength,
    limit: [LEAST_MEMORY, MOST_BANK_BYTES],
  });
}

export function pickImportance({ importance }: QuantizeOptions): { importance?: Float32Array } {
  return importance ? { importance } : {};
}

/** HQQ's scales and zeros, and the votes that HQQ and FP8 need while they work. */
export function sideArrays(
  type: IsqType,
  count: number,
  members: number,
  make: (floats: number) => Float32Array,
): { scales?: Float32Array; zeros?: Float32Array; votes?: Float32Array } {
  const { family, blockElements } = TYPES[type];
  const votes = voteCount({ type, count }, members);
  return {
    ...(family === "group" && { scales: make(count / blockElements), zeros: make(count / blockElements) }),
    ...(votes > 0 && { votes: make(votes) }),
  };
}

/** The tensor that the members of a team made together. */
export function finishTensor(
  type: IsqType,
  algorithm: QuantizedTensor["algorithm"],
  shape: readonly number[],
  parts: Pick<QuantizedTensor, "data" | "scales" | "zeros">,
  results: readonly EncodeResult[],
): QuantizedTensor {
  const reencodedBlocks = results.reduce((sum, result) => sum + result.reencodedBlocks, 0);
  const { quantizeScale, dequantizeScale } = results[0];
  return {
    type,
    algorithm,
    shape: Object.freeze([...shape]),
    ...parts,
    ...(quantizeScale !== undefined && { quantizeScale }),
    ...(dequantizeScale !== undefined && { dequantizeScale }),
    ...(reencodedBlocks > 0 && { reencodedBlocks }),
  };
}

/** Rows and outputs of a product. Throws `shape/mismatch`, `data/length`. */
export function checkProduct(weights: Tensor, activations: Float32Array) {
  checkParts(weights);
  const columns = rowElements(weights.shape);
  const rows = columns === 0 ? 0 : activations.length / columns;
  if (!Number.isInteger(rows)) {
    throw new IsqError("shape/mismatch", `${activations.length} activations are not rows of ${columns}`, {
      field: "activations",
      value: activations.length,
      limit: columns,
    });
  }
  const outputs = weights.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  return { rows, outputs, columns };
}
