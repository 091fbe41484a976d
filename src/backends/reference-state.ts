/** What the reference backend's operations work on. */

import type { Angles } from "./angles.js";
import type { Tensor } from "./backend.js";
import type { Observation } from "./observe.js";
import type { Placements } from "./placements.js";
import type { Batch, Program, Slot } from "./program.js";
import type { CacheLayer } from "./reference-attention.js";
import type { Matrix } from "./reference-linear.js";

/** A weight; norms and biases are decoded when they are placed. */
interface PlacedWeight {
  readonly tensor: Tensor;
  readonly vector: Float32Array;
}

/** Everything a step reads and writes. */
export interface State {
  readonly program: Program;
  readonly weights: Placements<PlacedWeight>;
  readonly slots: Float32Array[];
  readonly angles: readonly Angles[];
  readonly cache: readonly CacheLayer[];
  batch: Batch;
  /** Of the batch; see there. */
  callLengths: Int32Array;
  /** What goes into linears, while it is observed. */
  observation: Observation | null;
}

/** A slot's array and row width. Arrays are replaced when they grow, so this is asked for in every step. */
export function matrixOf({ slots, program }: State, slot: Slot): Matrix {
  return { values: slots[slot], width: program.slots[slot].width };
}
