/** Placing: a plan is executed and its tensors go to a session one by one; re-ISQ does the same for what changes. */

import type { Backend, Tensor } from "./backends/backend.js";
import type { WeightIndex } from "./backends/program.js";
import type { Plan, PlanRow } from "./plan.js";
import {
  type QuantizeModelOptions,
  type QuantizeReport,
  quantizeModel,
  type TensorSource,
} from "./quantize.js";

/** What can take weights: a session, or a running model that swaps them between steps. */
export interface Placeable {
  place(weight: WeightIndex, tensor: Tensor): Promise<void> | void;
}

/** Executes a plan and places every tensor. */
export function placeModel(
  plan: Plan,
  source: TensorSource,
  backend: Backend,
  target: Placeable,
  options: QuantizeModelOptions = {},
): Promise<QuantizeReport> {
  return quantizeModel(plan, source, backend, (row, tensor) => target.place(row.weight, tensor), options);
}

/**
 * Executes only the rows of `next` that differ from `current`. A tensor is replaced when its successor is complete, so a
 * failure leaves the old one running; the report lists the rows that changed.
 */
export function replaceModel(
  current: Plan,
  next: Plan,
  source: TensorSource,
  backend: Backend,
  target: Placeable,
  options: QuantizeModelOptions = {},
): Promise<QuantizeReport> {
  const rows = next.rows.filter((row, index) => !sameResult(row, current.rows[index]));
  return placeModel({ ...next, rows }, source, backend, target, options);
}

function sameResult(a: PlanRow, b: PlanRow): boolean {
  return (
    a.type === b.type && a.algorithm === b.algorithm && a.importance === "none" && b.importance === "none"
  );
}
