/** How a block is encoded, and the steps that the traced encoders share. */

import { f32 } from "../numerics.js";
import type { Lineage } from "../quants/search.js";
import type { IsqType } from "../quants/table.js";
import type { Arithmetic } from "./arithmetic.js";
import { type Layout, writeBits } from "./layout.js";
import type { Tracer } from "./trace.js";

/** One block to encode. `importance` is the block's part of the row's vector. */
export interface BlockInput {
  readonly type: IsqType;
  readonly algorithm: "ggml" | "mistralrs";
  readonly x: Float32Array;
  readonly importance?: Float32Array | undefined;
  /** Mean square of the whole row: part of the weights of the types of 32 under importance. */
  readonly rowMeanSquare?: number;
}

/** Lineage and arithmetic, and who listens. */
export interface Way {
  readonly lineage: Lineage;
  /** Weight and squared code are grouped (w·l)·l, as ggml does, or w·(l·l). */
  readonly weightFirst: boolean;
  readonly a: Arithmetic;
  readonly trace?: Tracer | undefined;
}

/** Weight times squared code, added to a sum; the last product is the one that may be fused. */
export function addSquare({ weightFirst, a }: Way, w: number, l: number, sum: number): number {
  return weightFirst ? a.mulAdd(f32(w * l), l, sum) : a.mulAdd(w, f32(l * l), sum);
}

export const isGgml = (way: Way): boolean => way.weightFirst;

export function putCodes(layout: Layout, codes: Uint8Array, block: Uint8Array): void {
  layout.codes.forEach((places, i) => {
    writeBits(block, places, codes[i]);
  });
}

/** importance · sqrt(sigma2 + x·x) */
export function rowWeights(
  a: Arithmetic,
  x: Float32Array,
  importance: Float32Array,
  sigma2: number,
): Float32Array {
  return x.map((v, i) => f32(importance[i] * f32(Math.sqrt(a.mulAdd(v, v, sigma2)))));
}

/** The only scale of an encoder that does not search. `inverse` is what values are multiplied by. */
export const report = (way: Way, scale: number, inverse: number, min?: number): void =>
  way.trace?.({
    of: "the block",
    wins: "least error",
    candidates: [
      { step: "range", scale, inverse, ...(min !== undefined && { min, offset: -min }), value: 0 },
    ],
  });
