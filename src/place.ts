/** Placing: a plan is executed and its tensors go to a session one by one. */

import type { Backend, Session } from "./backends/backend.js";
import type { Plan, PlanRow } from "./plan.js";
import {
  createRowMaker,
  executePlan,
  importanceOf,
  locateRow,
  type QuantizeModelOptions,
  type QuantizeReport,
  type RowOutcome,
  type TensorSource,
} from "./quantize.js";
import type { IsqType } from "./quants/table.js";

/** What can take weights: a session, or a running model that takes them between steps. */
export type Placeable = Pick<Session, "place" | "canPlaceFile" | "placeFile">;

/**
 * Executes a plan and places every tensor. Where the session can, its workers read, quantize and keep their own rows, and
 * no other memory holds them. Throws as quantizeModel does, and what `place` throws.
 */
export function placeModel(
  plan: Plan,
  source: TensorSource,
  backend: Backend,
  target: Placeable,
  options: QuantizeModelOptions = {},
): Promise<QuantizeReport> {
  return executePlan(plan, createPlacer(plan, source, backend, target, options), options);
}

/** What makes and places one row of a plan. */
export function createPlacer(
  plan: Pick<Plan, "rows">,
  source: TensorSource,
  backend: Backend,
  target: Placeable,
  options: QuantizeModelOptions = {},
): (row: PlanRow) => Promise<RowOutcome> {
  const makeRow = createRowMaker(plan, source, backend, options);
  return async (row) => {
    const inPlace = options.measureError ? null : await placeFromFile(row, source, backend, target, options);
    if (inPlace) return inPlace;
    const { tensor, error } = await makeRow(row);
    await target.place(row.weight, tensor);
    const reencodedBlocks = ("reencodedBlocks" in tensor && tensor.reencodedBlocks) || 0;
    return { reencodedBlocks, ...(error && { error }) };
  };
}

/** Null where the weight has to take the way over a finished tensor. */
async function placeFromFile(
  row: PlanRow,
  source: TensorSource,
  backend: Backend,
  target: Placeable,
  { importance, signal }: QuantizeModelOptions,
): Promise<RowOutcome | null> {
  const file = locateRow(source, row, backend);
  if (!file || !target.canPlaceFile?.(row.weight) || !target.placeFile) return null;
  if (row.algorithm === null) {
    return { reencodedBlocks: await target.placeFile(row.weight, file, null, signal) };
  }
  const type = row.type as IsqType;
  const own = importanceOf(row, importance);
  const encoding = { type, algorithm: row.algorithm, name: row.tensor, ...(own && { importance: own }) };
  return { reencodedBlocks: await target.placeFile(row.weight, file, encoding, signal) };
}
