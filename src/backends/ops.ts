/**
 * The operations of a {@link Program}, each with the exact order of its steps: these comments are the contract that all
 * backends but the GPU keep bit for bit.
 *
 * Every step is binary32 and rounded by itself; nothing is fused. Numbers in an operation (scales, epsilons, caps) are
 * binary64 and rounded to binary32 before use. Unless an operation says otherwise `out` may be one of its inputs. Rows do
 * not see each other, but in `attention`.
 *
 * - dot(a, b): eight lane sums S_l += a_i·b_i with l = i mod 8, from 0, in the order of i (product rounded, then sum), and
 *   at the end ((S_0 + S_1) + S_2) … + S_7.
 * - sum(a): as dot with all b_i = 1, without the products.
 * - softmax(s): m = the largest; e_i = exp32(s_i - m); result e_i / sum(e).
 * - exp32, tanh32 and erf32 are the functions of math.ts, step by step.
 */

import type { Slot, WeightIndex } from "./program.js";

/**
 * - sigmoid(x) = 1 / (1 + exp32(-x))
 * - silu(x) = x / (1 + exp32(-x))
 * - geluTanh(x) = (0.5·x)·(1 + tanh32(√(2/π)·(x + 0.044715·((x·x)·x))))
 * - geluErf(x) = (0.5·x)·(1 + erf32(x·√½))
 */
export type Activation = "sigmoid" | "silu" | "geluTanh" | "geluErf";

/** How experts are chosen from a row of router logits x, and what their results weigh. Ties go to the lower index. */
export type Router =
  /**
   * s = softmax(x) or sigmoid of each; c = s (+ bias). With groups, only experts of the best groups are candidates:
   * groups are runs of E / count experts, and rate as their largest c, or as the sum of their two largest (the largest
   * first). Chosen are the candidates with the largest c, in descending order of c; w_j = s of the j-th. With
   * `normalize` w_j = w_j / (w_0 + w_1 … + epsilon), summed from w_0 on. Last w_j = w_j · scale.
   */
  | {
      readonly kind: "scores";
      readonly scores: "softmax" | "sigmoid";
      /** A weight of E values, added for the choice only. */
      readonly bias?: WeightIndex;
      readonly groups?: {
        readonly count: number;
        readonly chosen: number;
        readonly rate: "largest" | "twoLargest";
      };
      readonly normalize?: { readonly epsilon: number };
      readonly scale: number;
    }
  /**
   * One after the other. Of those not chosen yet the largest logit t is chosen; the others stay beside it unless
   * (t - x_i) / max(|x_i|, t) > 2·jitter; w_j = the chosen one's share of the softmax over those that stay, which is
   * taken over all E places with -infinity (so exp32 gives 0) where an expert does not stay or was chosen before.
   */
  | { readonly kind: "sparseMixer"; readonly jitter: number };

export type Op =
  /** out[r] = row i of the (decoded) weight, times `scale` if given; i is tokens[r], or positions[r]. */
  | {
      readonly kind: "embed";
      readonly weight: WeightIndex;
      readonly out: Slot;
      readonly index: "tokens" | "positions";
      readonly scale?: number;
    }
  /**
   * RMS norm over runs of `width` elements (the whole row, or each head): (x · (1 / sqrt(dot(x,x)/width + eps))) · w', where
   * w' = w, or offset + w if `offset` is given.
   */
  | {
      readonly kind: "rmsNorm";
      readonly x: Slot;
      readonly weight: WeightIndex;
      readonly out: Slot;
      readonly width: number;
      readonly epsilon: number;
      readonly offset?: number;
    }
  /** Over the whole row: c = x - sum(x)/width; (c · (1 / sqrt(dot(c,c)/width + eps))) · w + b. */
  | {
      readonly kind: "layerNorm";
      readonly x: Slot;
      readonly weight: WeightIndex;
      readonly bias: WeightIndex;
      readonly out: Slot;
      readonly epsilon: number;
    }
  /** out[r][o] = dot(weight[o], x[r]) (+ bias[o]). The type of the weight decides which dot. `out` is not `x`. */
  | {
      readonly kind: "linear";
      readonly x: Slot;
      readonly weight: WeightIndex;
      readonly bias?: WeightIndex;
      readonly out: Slot;
    }
  /**
   * In place, on elements `start` to `start + rotaryWidth` of each head; pair i is (start + i, start + i + rotaryWidth/2),
   * or (start + 2i, start + 2i + 1) if `interleaved`: (a, b) becomes (a·cos - b·sin, b·cos + a·sin), the angles being row
   * positions[r] of the table. With `long`, rows of calls that reach beyond `long.beyond` positions (callLengths of
   * the batch) use table `long.table` instead.
   */
  | {
      readonly kind: "rope";
      readonly x: Slot;
      readonly headWidth: number;
      readonly start: number;
      readonly interleaved: boolean;
      readonly table: number;
      readonly long?: { readonly table: number; readonly beyond: number };
    }
  /**
   * Stores k and v of these rows in the cache, then for each query row and head: scores s_t = dot(q, k_t) · scale over the
   * positions t it may see; with `softcap` s_t = tanh32(s_t / softcap) · softcap; p = softmax(s), its lanes counted from the
   * first position it may see; out = Σ_t p_t·v_t in t order (product rounded, then sum, from 0). Query head h reads key and
   * value head ⌊h · kvHeads / heads⌋. `out` is none of the inputs.
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
      /** Of a query or key head. */
      readonly headWidth: number;
      /** Of a value head, and of a head of `out`. */
      readonly valueWidth: number;
      readonly scale: number;
      readonly softcap?: number;
      /** Positions seen, the own one included; null: all before. */
      readonly window: number | null;
    }
  /** out = activation(gate) · up. */
  | {
      readonly kind: "gate";
      readonly gate: Slot;
      readonly up: Slot;
      readonly out: Slot;
      readonly activation: Activation;
    }
  /** out = activation(x). */
  | { readonly kind: "activate"; readonly x: Slot; readonly out: Slot; readonly activation: Activation }
  /** out = a + b, or a + b·scale. */
  | { readonly kind: "add"; readonly a: Slot; readonly b: Slot; readonly out: Slot; readonly scale?: number }
  /** out = x · factor. */
  | { readonly kind: "scale"; readonly x: Slot; readonly out: Slot; readonly factor: number }
  /** out = tanh32(x / cap) · cap. */
  | { readonly kind: "softcap"; readonly x: Slot; readonly out: Slot; readonly cap: number }
  /**
   * Copies `count` runs of `width` columns: for n < count, i < width:
   * out[r][outStart + n·outStride + i] = x[r][xStart + n·xStride + i]. A stride of 0 reads the same run again. Other columns
   * of `out` stay as they are. `out` is not `x`.
   */
  | {
      readonly kind: "copy";
      readonly x: Slot;
      readonly xStart: number;
      readonly xStride: number;
      readonly out: Slot;
      readonly outStart: number;
      readonly outStride: number;
      readonly count: number;
      readonly width: number;
    }
  /** Copies the rows whose logits are wanted (batch.outputs) from a `tokens` slot to an `outputs` slot. */
  | { readonly kind: "select"; readonly x: Slot; readonly out: Slot }
  /**
   * x [experts] are the router's logits. Writes the indices of as many experts as the rows of `chosen` are wide (as
   * numbers) and what each weighs, both [tokens × chosen].
   */
  | {
      readonly kind: "route";
      readonly x: Slot;
      readonly chosen: Slot;
      readonly weights: Slot;
      readonly router: Router;
    }
  /**
   * `out` has K = width of `chosen` rows per token: out[t·K + j][o] = dot(weight of expert chosen[t][j], row o; x of the
   * same token), where x has one row per token, or K, of which it is row j. Each expert's type decides which dot. Experts
   * that no token chose are not touched. `out` is not `x`.
   */
  | {
      readonly kind: "expertLinear";
      readonly x: Slot;
      readonly chosen: Slot;
      /** By expert. */
      readonly experts: readonly WeightIndex[];
      readonly out: Slot;
    }
  /**
   * out[t] = weights[t][0]·x[t·K] + weights[t][1]·x[t·K + 1] + …, in this order, each product rounded, then added, from 0;
   * K is the width of `weights` and the rows per token of x.
   */
  | { readonly kind: "combine"; readonly x: Slot; readonly weights: Slot; readonly out: Slot };
