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
import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { elementCount } from "../quants/tensor.js";

/** What a weight needs besides its shape. */
export type WeightPlace = Omit<WeightSpec, "shape">;

export interface LinearPlace {
  /** Checkpoint name without the suffix: `.weight` and `.bias` are appended. */
  readonly name: string;
  readonly layer: number | null;
  readonly bias?: boolean;
  /** `linear` when absent. */
  readonly role?: WeightRole;
  readonly tiedTo?: string;
}

/** How a model norms: see rmsNorm and layerNorm in ops.ts. */
export type NormStyle =
  | { readonly kind: "rms"; readonly epsilon: number; readonly offset?: number }
  | { readonly kind: "layer"; readonly epsilon: number };

export interface NormPlace {
  /** Checkpoint name without the suffix. */
  readonly name: string;
  readonly layer: number | null;
  /** Elements of a run, the whole row when absent; layer norms take whole rows. */
  readonly width?: number;
}

export interface ProgramBuilder {
  /** The slot of this name; made on first use. A second use with another width or kind of rows is a programming error. */
  slot(name: string, width: number, form?: Partial<Pick<SlotSpec, "rows" | "rowsPerToken">>): Slot;
  /** Elements per row of a slot. */
  width(slot: Slot): number;
  /** Declares a weight. Throws `shape/invalid` for a shape beyond the limits, `config/invalid` for one weight too many. */
  weight(place: WeightPlace, shape: readonly number[]): WeightIndex;
  /** The index of a rotary table; equal tables have one. */
  rope(table: RopeTable): number;
  push(op: Op): void;
  /** x · weightᵀ (+ bias) into `out`; the shape [outputs, inputs] follows from the slots. */
  linear(x: Slot, out: Slot, place: LinearPlace): void;
  norm(x: Slot, out: Slot, style: NormStyle, place: NormPlace): void;
  finish(logits: Slot, contextLength: number): Program;
}

export function createBuilder(): ProgramBuilder {
  const weights: WeightSpec[] = [];
  const slots: SlotSpec[] = [];
  const ropes: RopeTable[] = [];
  const ops: Op[] = [];
  const slotByName = new Map<string, Slot>();

  const builder: ProgramBuilder = {
    slot(name, width, { rows = "tokens", rowsPerToken = 1 } = {}) {
      const spec = { name, width, rows, ...(rowsPerToken > 1 && { rowsPerToken }) };
      const known = slotByName.get(name);
      if (known === undefined) {
        slotByName.set(name, slots.length);
        return slots.push(spec) - 1;
      }
      const [is, wanted] = [slots[known], spec].map((slot) => JSON.stringify(slot));
      if (is !== wanted) throw new Error(`slot ${is} is not ${wanted}`);
      return known;
    },
    width: (slot) => slots[slot].width,
    weight(place, shape) {
      elementCount(shape, place.name);
      if (weights.length >= LIMITS.configWeights) throw tooManyWeights();
      return weights.push({ ...place, shape }) - 1;
    },
    rope(table) {
      const known = ropes.findIndex((rope) => isSameTable(rope, table));
      return known >= 0 ? known : ropes.push(table) - 1;
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
    norm(x, out, style, { name, layer, width = slots[x].width }) {
      const weight = builder.weight({ name: `${name}.weight`, role: "norm", layer }, [width]);
      if (style.kind === "rms") {
        const { epsilon, offset } = style;
        ops.push({
          kind: "rmsNorm",
          x,
          weight,
          out,
          width,
          epsilon,
          ...(offset !== undefined && { offset }),
        });
      } else {
        const bias = builder.weight({ name: `${name}.bias`, role: "bias", layer }, [width]);
        ops.push({ kind: "layerNorm", x, weight, bias, out, epsilon: style.epsilon });
      }
    },
    finish: (logits, contextLength) => ({
      weights,
      slots,
      ropes,
      ops,
      logits,
      vocabulary: slots[logits].width,
      contextLength,
      ...cacheOf(ops),
    }),
  };
  return builder;
}

function isSameTable(a: RopeTable, b: RopeTable): boolean {
  return (
    a.rotaryWidth === b.rotaryWidth &&
    a.magnitude === b.magnitude &&
    a.frequencies.every((frequency, i) => frequency === b.frequencies[i])
  );
}

/** The cache that a program's attention needs. */
function cacheOf(ops: readonly Op[]): Pick<Program, "cacheLayers" | "keyWidth" | "valueWidth"> {
  const attentions = ops.filter((op) => op.kind === "attention");
  const widest = (pick: (op: (typeof attentions)[number]) => number) =>
    attentions.reduce((most, op) => Math.max(most, pick(op)), 0);
  return {
    cacheLayers: widest(({ layer }) => layer + 1),
    keyWidth: widest(({ kvHeads, headWidth }) => kvHeads * headWidth),
    valueWidth: widest(({ kvHeads, valueWidth }) => kvHeads * valueWidth),
  };
}

function tooManyWeights(): IsqError {
  const limit = LIMITS.configWeights;
  return new IsqError("config/invalid", `layers and experts make more than ${limit} weights`, {
    field: "num_hidden_layers",
    limit,
  });
}
