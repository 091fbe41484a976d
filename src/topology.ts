/**
 * Topology rules: which type (and device) each tensor gets, over the default of the whole model.
 *
 * Precedence: a rule that names tensors by pattern beats one that names layers, and within each kind the later
 * declaration beats the earlier. A rule without `isq` inherits the default type, and so do tensors no rule covers;
 * `isq: "none"` leaves them unquantized.
 */

import type { IsqType } from "./quants/table.js";

export interface TopologyRule {
  /** Layers `start` (included) to `end` (excluded); tensors outside of the layers are never covered by a range. */
  readonly layers?: { readonly start: number; readonly end: number };
  /** Matched against the tensor's full name, anywhere in it. */
  readonly pattern?: RegExp;
  readonly isq?: IsqType | "none";
}

/** The rule that decides for a tensor, or null. */
export function findRule(
  rules: readonly TopologyRule[],
  tensor: { readonly name: string; readonly layer: number | null },
): TopologyRule | null {
  const matches = (rule: TopologyRule) => rule.pattern?.test(tensor.name) ?? false;
  const covers = (rule: TopologyRule) =>
    rule.layers !== undefined &&
    tensor.layer !== null &&
    tensor.layer >= rule.layers.start &&
    tensor.layer < rule.layers.end;
  return rules.findLast(matches) ?? rules.findLast(covers) ?? null;
}
