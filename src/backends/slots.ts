/** What operations read and write: slots and weights. */

import type { Op, Slot, WeightIndex } from "./program.js";

/** Slots that an operation reads. A copy also keeps what it does not write of its own. */
export function inputsOf(op: Op): readonly Slot[] {
  switch (op.kind) {
    case "embed":
      return [];
    case "attention":
      return [op.q, op.k, op.v];
    case "gate":
      return [op.gate, op.up];
    case "add":
      return [op.a, op.b];
    case "expertLinear":
      return [op.x, op.chosen];
    case "combine":
      return [op.x, op.weights];
    default:
      return [op.x];
  }
}

/** Slots that an operation writes. */
export function outsOf(op: Op): readonly Slot[] {
  if (op.kind === "rope") return [op.x];
  return op.kind === "route" ? [op.chosen, op.weights] : [op.out];
}

/** Weights of an operation; the one that decides where it runs comes first. */
export function weightsOf(op: Op): readonly WeightIndex[] {
  switch (op.kind) {
    case "embed":
    case "rmsNorm":
      return [op.weight];
    case "layerNorm":
      return [op.weight, op.bias];
    case "linear":
      return op.bias === undefined ? [op.weight] : [op.weight, op.bias];
    case "expertLinear":
      return op.experts;
    case "route":
      return op.router.kind === "scores" && op.router.bias !== undefined ? [op.router.bias] : [];
    default:
      return [];
  }
}
