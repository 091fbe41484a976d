/**
 * The language between models and backends. A model compiles, once, to a {@link Program}: a straight list of operations
 * (ops.ts) on slots (activation matrices, rows × width, binary32) and weights. A step runs the program on a {@link Batch}
 * of token rows. Backends interpret it as they like (scalar loops, SIMD, workers in step, GPU dispatches), but the
 * reference's result is the contract: see the comments on each operation for the order of its sums.
 */

import type { Op } from "./ops.js";

export type { Activation, Op, Router } from "./ops.js";

/** Index into {@link Program.slots}. */
export type Slot = number;
/** Index into {@link Program.weights}. */
export type WeightIndex = number;

/** What a weight is for; it decides whether ISQ may touch it (see plan.ts). */
export type WeightRole = "embedding" | "norm" | "bias" | "router" | "linear" | "expert" | "head";

export interface WeightSpec {
  /** Name in the Hugging Face checkpoint, for example `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string;
  /** Row-major: [outputs, inputs] for linears, [width] for norms and biases. */
  readonly shape: readonly number[];
  readonly role: WeightRole;
  /** Decoder block, or null outside of the blocks. */
  readonly layer: number | null;
  /** A head that shares its data with this embedding when the checkpoint has none of its own (tied). */
  readonly tiedTo?: string;
  /** Where else, or how else, safetensors checkpoints have it; tried in this order. Absent: as it is, under `name`. */
  readonly stored?: readonly StoredWeight[];
}

/** A place in a checkpoint that a weight can come from. */
export interface StoredWeight {
  readonly name: string;
  /** It is stored [inputs, outputs]. */
  readonly transposed?: boolean;
  /** It is rows `first` to `first + shape[0]` of entry `index` of a stack of this shape, [entries, rows, columns]. */
  readonly slice?: { readonly stack: readonly number[]; readonly index: number; readonly first: number };
}

export interface SlotSpec {
  readonly name: string;
  /** Elements per row. */
  readonly width: number;
  /** `tokens`: rows for each token of the batch; `outputs`: one row per requested logit row. */
  readonly rows: "tokens" | "outputs";
  /** Rows of each token, one after the other: row t · rowsPerToken + j is token t's row of rank j. 1 when absent. */
  readonly rowsPerToken?: number;
}

/** Cosines and sines for rotary embedding: row p holds position p's `rotaryWidth / 2` angles. Strict, from math.ts. */
export interface RopeTable {
  /** Rotated elements of each head; the rest passes through. */
  readonly rotaryWidth: number;
  /** Angle of pair i at position p is p · frequencies[i]; binary64. */
  readonly frequencies: Float64Array;
  /** Both cosine and sine are multiplied by this (1 except for yarn-like scalings). */
  readonly magnitude: number;
}

export interface Program {
  readonly weights: readonly WeightSpec[];
  readonly slots: readonly SlotSpec[];
  readonly ropes: readonly RopeTable[];
  readonly ops: readonly Op[];
  /** The slot that holds the result, [outputs × vocabulary]. */
  readonly logits: Slot;
  readonly vocabulary: number;
  /** Rows of the tables that tokens are indices of; `vocabulary` when absent. */
  readonly tokenRows?: number;
  /** Most positions a sequence may have. */
  readonly contextLength: number;
  /** Cache layout: this many layers, each with a key and a value of these widths per position, all heads together. */
  readonly cacheLayers: number;
  readonly keyWidth: number;
  readonly valueWidth: number;
}

/** One step: any number of rows of any number of sequences. Positions of a sequence are added in order. */
export interface Batch {
  readonly tokens: Int32Array;
  /** Position of each row in its sequence. */
  readonly positions: Int32Array;
  /** Index into `blockTables` for each row. */
  readonly sequences: Int32Array;
  /** For each sequence the cache blocks that hold its positions, CACHE_BLOCK positions each. */
  readonly blockTables: readonly Int32Array[];
  /** Rows whose logits are wanted, ascending. */
  readonly outputs: Int32Array;
  /**
   * For each row the length of its sequence after the call that it belongs to: the rows of a prompt have one number, in
   * however many steps it is run, so that the steps do not show in the results. Absent: the length after this step.
   */
  readonly callLengths?: Int32Array;
}

/** Positions per cache block. */
export const CACHE_BLOCK = 32;
