/** What a codec file provides. All functions are pure on their inputs and write only to `out`. */

import type { Algorithm, IsqType } from "./table.js";
import type { QuantizedTensor, QuantizeOptions } from "./tensor.js";

/** Order in which a dot product adds its float steps: ggml's generic scalar code, or candle's. */
export type DotOrder = "ggml" | "mistralrs";

/** Dot product of an opened row with one row of activations in the dot partner's type; binary32. */
export type DotRow = (activations: Uint8Array, order: DotOrder) => number;

/** Codec of a type whose rows are runs of self-contained blocks. */
export interface BlockCodec {
  readonly type: IsqType;
  /**
   * Encodes one row. `out` has exactly the row's bytes and is zero-filled. Returns the number of super-blocks that had
   * to be encoded again without importance (see `reencodedBlocks` in tensor.ts).
   */
  encodeRow(
    algorithm: Algorithm,
    values: Float32Array,
    importance: Float32Array | undefined,
    out: Uint8Array,
  ): number;
  /** Decodes whole blocks into `out`, which has their element count. */
  decodeRow(bytes: Uint8Array, out: Float32Array): void;
  /** Unpacks a row of this type for dot products with any number of rows of its dot partner. */
  openRow(weights: Uint8Array): DotRow;
}

/** Codec of a type whose groups or scale span the whole tensor. */
export interface TensorCodec {
  readonly type: IsqType;
  encode(
    algorithm: Algorithm,
    values: Float32Array,
    options: QuantizeOptions,
  ): Omit<QuantizedTensor, "type" | "algorithm" | "shape">;
  decode(tensor: QuantizedTensor, out: Float32Array): void;
}
