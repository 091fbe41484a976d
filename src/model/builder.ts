/** Writes a {@link Program}: architectures call it in the order of the forward pass. Slots and weights go by name. */

import type {
  Op,
  Program,
  RopeTable,
  Slot,
  SlotSpec,
  WeightIndex,
  WeightRole,
  WeightSpec,
} from "../backends/program.js";
import { elementCount } from "../quants/tensor.js";

/** What a weight name needs besides its shape. */
export interface WeightPlace {
  readonly name: string;
  readonly role: WeightRole;
  readonly layer: number | null;
  readonly tiedTo?: string;
}

export interface LinearPlace {
  /** Checkpoint name without the suffix: `.weight` and `.bias` are appended. */
  readonly name: string;
  readonly layer: number | null;
  readonly bias?: boolean;
  /** `linear` when absent. */
  readonly role?: WeightRole;
  readonly tiedTo?: string;
}

export interface ProgramLimits {
  readonly vocabulary: number;
  readonly contextLength: number;
  readonly cacheLayers: number;
  readonly cacheWidth: number;
}

export interface ProgramBuilder {
  /** The slot of this name; made on first use. A second use with another width or kind of rows is a programming error. */
  slot(name: string, width: number, rows?: SlotSpec["rows"]): Slot;
  /** Declares a weight. Throws `shape/invalid` for a shape beyond the limits. */
  weight(place: WeightPlace, shape: readonly number[]): WeightIndex;
  rope(table: RopeTable): number;
  push(op: Op): void;
  /** x · weightᵀ (+ bias) into `out`; the shape [outputs, inputs] follows from the slots. */
  linear(x: Slot, out: Slot, place: LinearPlace): void;
  /** RMS norm of runs of `width` elements (the whole row by default) with the weight `name`. */
  rmsNorm(x: Slot, out: Slot, name: string, layer: number | null, epsilon: number, width?: number): void;
  finish(logits: Slot, limits: ProgramLimits): Program;
}

export function createBuilder(): ProgramBuilder {
  const weights: WeightSpec[] = [];
  const slots: SlotSpec[] = [];
  const ropes: RopeTable[] = [];
  const ops: Op[] = [];
  const slotByName = new Map<string, Slot>();

  const builder: ProgramBuilder = {
    slot(name, width, rows = "tokens") {
      const known = slotByName.get(name);
      if (known === undefined) {
        slotByName.set(name, slots.length);
        return slots.push({ name, width, rows }) - 1;
      }
      if (slots[known].width !== width || slots[known].rows !== rows) {
        throw new Error(
          `slot ${name} is [${slots[known].rows} × ${slots[known].width}], not [${rows} × ${width}]`,
        );
      }
      return known;
    },
    weight(place, shape) {
      elementCount(shape, place.name);
      return weights.push({ ...place, shape }) - 1;
    },
    rope(table) {
      return ropes.push(table) - 1;
    },
    push(op) {
      ops.push(op);
    },
    linear(x, out, { name, layer, bias = false, role = "linear", tiedTo }) {
      const outputs = slots[out].width;
      const place = { name: `${name}.weight`, role, layer, ...(tiedTo !== undefined && { tiedTo }) };
      const weight = builder.weight(place, [outputs, slots[x].width]);
      const biasWeight = bias
        ? builder.weight({ name: `${name}.bias`, role: "bias", layer }, [outputs])
        : undefined;
      ops.push({ kind: "linear", x, weight, ...(biasWeight !== undefined && { bias: biasWeight }), out });
    },
    rmsNorm(x, out, name, layer, epsilon, width = slots[x].width) {
      const weight = builder.weight({ name, role: "norm", layer }, [width]);
      ops.push({ kind: "rmsNorm", x, weight, out, width, epsilon });
    },
    finish(logits, limits) {
      return { weights, slots, ropes, ops, logits, ...limits };
    },
  };
  return builder;
}
