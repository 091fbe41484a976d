/** What every backend offers: the codec half (same calls and results as isq/quants) and the running half. */

import type { IsqType } from "../quants/table.js";
import type { QuantizedTensor, QuantizeOptions } from "../quants/tensor.js";
import type { Batch, Program, WeightIndex } from "./program.js";

export type BackendName = "reference" | "wasm" | "threads" | "webgpu";

/** Types a tensor may have in a checkpoint and keep when it is not quantized. */
export type DenseType = "F32" | "F16" | "BF16";

/** An unquantized tensor: its bytes as the checkpoint has them, little-endian. */
export interface DenseTensor {
  readonly type: DenseType;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export type Tensor = QuantizedTensor | DenseTensor;

export type Awaitable<T> = T | Promise<T>;

export interface Backend {
  readonly name: BackendName;
  /** As `quantize` of isq/quants: the same bytes on every backend. */
  quantize(type: IsqType, values: Float32Array, options: QuantizeOptions): Awaitable<QuantizedTensor>;
  /** As `dequantize` of isq/quants; dense tensors are widened to f32. */
  dequantize(tensor: Tensor): Awaitable<Float32Array>;
  /**
   * activations [rows × columns] times the transpose of weights [outputs × columns] gives [rows × outputs]. ggml types
   * quantize each activation row to their dot partner (reference rule) and use its integer dot in ggml's order; the
   * others are decoded to f32 and use the eight-lane dot of program.ts.
   */
  matmul(weights: Tensor, activations: Float32Array): Awaitable<Float32Array>;
  /** Opens a program for running, with room for `cachePositions` positions over all sequences. */
  open(program: Program, options: SessionOptions): Awaitable<Session>;
  /** Frees everything. Later calls throw `backend/disposed`. */
  dispose(): Awaitable<void>;
}

export interface SessionOptions {
  readonly cachePositions: number;
}

/** A program with its weights on a device. */
export interface Session {
  /** Puts (or replaces) one weight. The caller may drop its copy afterwards. */
  place(weight: WeightIndex, tensor: Tensor): Awaitable<void>;
  /** Runs one step and returns the logits, [outputs × vocabulary]. */
  run(batch: Batch): Awaitable<Float32Array>;
  dispose(): Awaitable<void>;
}
