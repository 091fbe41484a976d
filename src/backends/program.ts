/**
 * The language between models and backends. A model compiles, once, to a {@link Program}: a straight list of operations
 * on slots (activation matrices, rows × width, binary32) and weights. A step runs the program on a {@link Batch} of
 * token rows. Backends interpret it as they like (scalar loops, SIMD, workers in step, GPU dispatches), but the
 * reference's result is the contract: see the comments on each operation for the order of its sums.
 */

/** Index into {@link Program.slots}. */
export type Slot = number;
/** Index into {@link Program.weights}. */
export type WeightIndex = number;

/** What a weight is for; it decides whether ISQ may touch it (see plan.ts). */
export type WeightRole = "embedding" | "norm" | "bias" | "router" | "linear" | "head";

export interface WeightSpec {
  /** Name in the Hugging Face checkpoint, for example `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string;
  /** Row-major, as stored: [outputs, inputs] for linears, [width] for norms and biases. */
  readonly shape: readonly number[];
  readonly role: WeightRole;
  /** Decoder block, or null outside of the blocks. */
  readonly layer: number | null;
  /** A head that shares its data with this embedding when the checkpoint has none of its own (tied). */
  readonly tiedTo?: string;
}

export interface SlotSpec {
  readonly name: string;
  /** Elements per row. */
  readonly width: number;
  /** `tokens`: one row per token of the batch; `outputs`: one row per requested logit row. */
  readonly rows: "tokens" | "outputs";
}

/** Cosines and sines for rotary embedding: row p holds position p's `headWidth / 2` angles. Strict, from math.ts. */
export interface RopeTable {
  /** Rotated elements of each head; the rest passes through. */
  readonly rotaryWidth: number;
  /** Angle of pair i at position p is p · frequencies[i]; binary64. */
  readonly frequencies: Float64Array;
  /** Both cosine and sine are multiplied by this (1 except for yarn-like scalings). */
  readonly magnitude: number;
}

/**
 * Operations. Scales and epsilons are given in binary64 and rounded to binary32 before use. "dot" below is the binary32
 * dot product of this project: eight lane sums S_l += a_i·b_i with l = i mod 8 (product rounded, then sum), and at the
 * end ((S_0 + S_1) + S_2) … + S_7. Linears of ggml types use their integer dot.
 */
export type Op =
  /** out[r] = row tokens[r] of the (decoded) weight, times `scale` if given. */
  | { readonly kind: "embed"; readonly weight: WeightIndex; readonly out: Slot; readonly scale?: number }
  /** RMS norm over runs of `width` elements (the whole row, or each head): x · (1 / sqrt(dot(x,x)/width + eps)) · w. */
  | {
      readonly kind: "rmsNorm";
      readonly x: Slot;
      readonly weight: WeightIndex;
      readonly out: Slot;
      readonly width: number;
      readonly epsilon: number;
    }
  /** out[r][o] = dot(weight[o], x[r]) (+ bias[o]). The type of the weight decides which dot. */
  | {
      readonly kind: "linear";
      readonly x: Slot;
      readonly weight: WeightIndex;
      readonly bias?: WeightIndex;
      readonly out: Slot;
    }
  /** In place, half-split pairs (i, i + rotaryWidth/2) of each head: a·cos - b·sin, b·cos + a·sin. */
  | { readonly kind: "rope"; readonly x: Slot; readonly headWidth: number; readonly table: number }
  /**
   * Stores k and v of these rows in the cache, then for each query row and head: scores s_t = dot(q, k_t) · scale over the
   * positions t it may see; m = max s; p_t = exp32(s_t - m); sum of p_t by eight lanes as in dot, the first position it may
   * see in lane 0; out = Σ_t (p_t / sum)·v_t in t order (product rounded, then sum, from 0). Query head h reads key head
   * ⌊h · kvHeads / heads⌋.
   */
  | {
      readonly kind: "attention";
      readonly q: Slot;
      readonly k: Slot;
      readonly v: Slot;
      readonly out: Slot;
      readonly layer: number;
      readonly heads: number;
      readonly kvHeads: number;
      readonly headWidth: number;
      readonly scale: number;
      /** Positions seen, the own one included; null: all before. */
      readonly window: number | null;
    }
  /** out = silu(gate) · up; silu(x) = x / (1 + exp32(-x)). */
  | {
      readonly kind: "gate";
      readonly gate: Slot;
      readonly up: Slot;
      readonly out: Slot;
      readonly activation: "silu";
    }
  /** out = a + b. */
  | { readonly kind: "add"; readonly a: Slot; readonly b: Slot; readonly out: Slot }
  /** Copies the rows whose logits are wanted (batch.outputs) from a `tokens` slot to an `outputs` slot. */
  | { readonly kind: "select"; readonly x: Slot; readonly out: Slot };

export interface Program {
  readonly weights: readonly WeightSpec[];
  readonly slots: readonly SlotSpec[];
  readonly ropes: readonly RopeTable[];
  readonly ops: readonly Op[];
  /** The slot that holds the result, [outputs × vocabulary]. */
  readonly logits: Slot;
  readonly vocabulary: number;
  /** Most positions a sequence may have. */
  readonly contextLength: number;
  /** Cache layout: layers × (keys and values) of this width per position. */
  readonly cacheLayers: number;
  readonly cacheWidth: number;
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
}

/** Positions per cache block. */
export const CACHE_BLOCK = 32;
