/** Placing: a plan is executed and its tensors go to a session one by one; re-ISQ does the same for what changes. */

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

/** What can take weights: a session, or a running model that swaps them between steps. */
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
  const makeRow = createRowMaker(plan, source, backend, options);
  const perform = async (row: PlanRow): Promise<RowOutcome> => {
    const inPlace = options.measureError ? null : await placeFromFile(row, source, backend, target, options);
    if (inPlace) return inPlace;
    const { tensor, error } = await makeRow(row);
    await target.place(row.weight, tensor);
    const reencodedBlocks = ("reencodedBlocks" in tensor && tensor.reencodedBlocks) || 0;
    return { reencodedBlocks, ...(error && { error }) };
  };
  return executePlan(plan, perform, options);
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
