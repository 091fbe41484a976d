/** The passes over all logits that choosing a token takes; backends may have faster ones with the same bits. */

import { exp32 } from "../math.js";
import { f32 } from "../numerics.js";

export interface LogitKernels {
  /** The id of the largest logit, the lowest among equals; -1 when one is NaN. */
  largest(logits: Float32Array): number;
  /** exp32((logit - most) / temperature), each step in binary32; 1 where the logit is `most`. */
  weights(logits: Float32Array, most: number, temperature: number): Float32Array;
}

/** The definition. */
export const scalarLogits: LogitKernels = {
  largest(logits) {
    let best = 0;
    for (let id = 0; id < logits.length; id++) {
      if (Number.isNaN(logits[id])) return -1;
      if (logits[id] > logits[best]) best = id;
    }
    return best;
  },
  weights: (logits, most, temperature) =>
    logits.map((logit) => (logit === most ? 1 : exp32(f32(f32(logit - most) / f32(temperature))))),
};
