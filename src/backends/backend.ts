/** What every backend offers: the codec half (same calls and results as isq/quants) and the running half. */

import type { LogitKernels } from "../model/logits.js";
import type { Algorithm, IsqType } from "../quants/table.js";
import type { QuantizedTensor, QuantizeOptions } from "../quants/tensor.js";
import type { Observation } from "./observe.js";
import type { Batch, Program, WeightIndex } from "./program.js";

/** What a backend is called in reports and by `--backend`. */
export type BackendName = "reference" | "wasm" | "threads" | "webgpu";

/** Types a tensor may have in a checkpoint and keep when it is not quantized. */
export type DenseType = "F32" | "F16" | "BF16";

/** An unquantized tensor: its bytes as the checkpoint has them, little-endian. */
export interface DenseTensor {
  readonly type: DenseType;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** A tensor as backends take and give it. */
export type Tensor = QuantizedTensor | DenseTensor;

export type Awaitable<T> = T | Promise<T>;

/** What quantizes, decodes and multiplies, and runs models: every backend has the same calls with the same results. */
export interface Backend {
  readonly name: BackendName;
  /** Worker threads, where the backend has some. */
  readonly workers?: number;
  /** As `quantize` of isq/quants: the same bytes on every backend. */
  quantize(type: IsqType, values: Float32Array, options: WorkOptions): Awaitable<QuantizedTensor>;
  /** As `dequantize` of isq/quants; dense tensors are widened to f32. */
  dequantize(tensor: Tensor): Awaitable<Float32Array>;
  /**
   * activations [rows × columns] times the transpose of weights [outputs × columns] gives [rows × outputs]. ggml types
   * quantize each activation row to their dot partner (reference rule) and use its integer dot in ggml's order; the
   * others are decoded to f32 and use the eight-lane dot of program.ts.
   */
  matmul(weights: Tensor, activations: Float32Array): Awaitable<Float32Array>;
  /** Where present: faster passes over logits, with the bits of model/logits.ts. */
  readonly logitKernels?: LogitKernels;
  /** Opens a program for running, with room for `cachePositions` positions over all sequences. */
  open(program: Program, options: SessionOptions): Awaitable<Session>;
  /**
   * Where present: `quantize` of values that the backend reads from a file itself, in parallel. The result may be in
   * shared memory.
   */
  quantizeFile?(type: IsqType, file: FileTensor, options: WorkOptions): Promise<QuantizedTensor>;
  /** Where present: a tensor of a file as it is, read in parallel into shared memory. */
  readFile?(file: FileTensor, signal?: AbortSignal): Promise<DenseTensor>;
  /** Whether those two, and `placeFile` of sessions, take Blobs: in browsers they do, and take no paths. */
  readonly readsBlobs?: boolean;
  /** Frees everything. Later calls throw `backend/disposed`. */
  dispose(): Awaitable<void>;
}

/** Options of isq/quants, and a signal where the work leaves the calling thread: then it ends with `aborted`. */
export interface WorkOptions extends QuantizeOptions {
  readonly signal?: AbortSignal;
}

/** Values of a dense tensor in a file, row-major, little-endian. */
export interface FileTensor {
  readonly path: string;
  /** Read instead of the path, which is then its name. Only for backends with `readsBlobs`. */
  readonly blob?: Blob;
  readonly byteOffset: number;
  readonly type: DenseType;
  readonly shape: readonly number[];
}

/** How a weight is encoded while it is placed. */
export interface PlaceEncoding {
  readonly type: IsqType;
  readonly algorithm: Algorithm;
  readonly importance?: Float32Array;
  /** For error messages. */
  readonly name?: string;
}

export interface SessionOptions {
  readonly cachePositions: number;
}

/** A program with its weights on a device. */
export interface Session {
  /** Puts (or replaces) one weight. The caller may drop its copy afterwards. */
  place(weight: WeightIndex, tensor: Tensor): Awaitable<void>;
  /** Where present: whether {@link placeFile} can take this weight. */
  canPlaceFile?(weight: WeightIndex): boolean;
  /**
   * Where present: reads a weight from a file, quantizes it or leaves it as it is (null), and places it. Rows of block
   * types are made where they stay: no other memory holds the tensor. Resolves to the number of super-blocks that were
   * encoded again.
   */
  placeFile?(
    weight: WeightIndex,
    file: FileTensor,
    encode: PlaceEncoding | null,
    signal?: AbortSignal,
  ): Promise<number>;
  /** A weight that is in force, as it was placed; norms and biases come as F32. Throws `tensor/missing`. */
  read(weight: WeightIndex): Awaitable<Tensor>;
  /**
   * From now on placed weights wait beside those in force, and steps run with the old ones, until `commit` puts all of them
   * in force or `discard` drops them. Throws `option/conflict` when weights are held already.
   */
  hold(): Awaitable<void>;
  /** Puts the held weights in force together. Throws `option/conflict` when none are held. */
  commit(): Awaitable<void>;
  /** Drops the held weights, if there are any. */
  discard(): Awaitable<void>;
  /**
   * Where present: from now on every step adds what goes into linears to sums that start from zero (see observe.ts). They may
   * be read between steps, also after `false`, which ends it.
   */
  observe?(on: boolean): Awaitable<Observation | null>;
  /**
   * Runs one step and returns the logits, [outputs × vocabulary]. A signal stops it in the middle where the step leaves
   * the calling thread: `aborted`.
   */
  run(batch: Batch, signal?: AbortSignal): Awaitable<Float32Array>;
  /**
   * Where present: positions behind the last one of a text that steps may write into ahead of their turn, if a text's table has
   * blocks for them.
   */
  readonly ahead?: number;
  /** Frees the weights and caches of this session; the backend stays. */
  dispose(): Awaitable<void>;
}
