/** What one member of a team that runs a program has in its WebAssembly memories, and what its operations do with slots. */

import type { Angles } from "./angles.js";
import { type Part, rowsOf } from "./interpreter.js";
import { addSquares, type Observation } from "./observe.js";
import type { Batch, Program, Slot, WeightIndex } from "./program.js";
import type { Columns, Schedule } from "./schedule.js";
import { shareOf } from "./team.js";
import type { Bank, Banks } from "./wasm-bank.js";
import type { Cache } from "./wasm-cache.js";
import type { Slots } from "./wasm-slots.js";
import type { MemberWeights } from "./wasm-weights.js";

export interface PlacedAngles {
  readonly angles: Angles;
  positions: number;
  cosines: number;
  sines: number;
}

export interface MemberState {
  readonly program: Program;
  readonly schedule: Schedule;
  readonly banks: Banks;
  readonly slots: Slots;
  readonly cache: Cache;
  readonly angles: readonly PlacedAngles[];
  readonly weights: MemberWeights;
  readonly part: Part;
  /** What goes into linears, while it is observed. */
  observation: Observation | null;
  /** What the linears read since the last other operation: one object as long as it is the same slot. */
  source: { readonly slot: Slot } | null;
  batch: Batch;
  /** Of the batch; see there. */
  callLengths: Int32Array;
}

/** Bytes of one operation's arguments that are brought into memory at a time. */
const STAGE_BYTES = 2 ** 20;

/** Rows of a slot in runs of which `floats` per row stay below the limit of a stage. */
export function inRuns(
  { program, batch }: MemberState,
  slot: Slot,
  floats: number,
  visit: (row: number, count: number) => void,
): void {
  const rows = rowsOf(program, batch, slot);
  const most = Math.max(1, Math.floor(STAGE_BYTES / (4 * Math.max(1, floats))));
  for (let row = 0; row < rows; row += most) visit(row, Math.min(most, rows - row));
}

/** The address of columns of rows: where they are if that is local and all of them, else a copy at `stage`. */
export function bring(
  { slots, banks }: MemberState,
  slot: Slot,
  columns: Columns,
  row: number,
  count: number,
  stage: number,
): number {
  const address = slots.address(slot, row);
  if (address !== null && columns[1] - columns[0] === slots.width(slot)) return address;
  slots.load(slot, columns, row, count, banks.first, stage);
  return stage;
}

/** Calls `kernel` on runs of rows of `inputs`, in the columns of `out` that this member writes. */
export function columnwise(
  state: MemberState,
  inputs: readonly Slot[],
  out: Slot,
  kernel: (bank: Bank, inputs: readonly number[], out: number, count: number) => void,
): void {
  const { slots, banks } = state;
  const columns = slots.columns(out);
  const width = columns[1] - columns[0];
  if (width === 0) return;
  inRuns(state, out, (inputs.length + 1) * width, (row, count) => {
    const size = 4 * width * count;
    const bank = banks.first;
    const [stageOut, ...stages] = bank.scratch(size, ...inputs.map(() => size));
    const target = slots.address(out, row) ?? stageOut;
    const addresses = inputs.map((slot, i) => bring(state, slot, columns, row, count, stages[i]));
    kernel(bank, addresses, target, width * count);
    if (target === stageOut) slots.store(out, row, count, bank, stageOut, width);
  });
}

/** Adds rows of a slot to what is observed of a weight. Members share the columns, so that no two write to one sum. */
export function observeRows(
  { slots, part }: MemberState,
  observation: Observation,
  weight: WeightIndex,
  slot: Slot,
  row: number,
  count: number,
): void {
  const width = slots.width(slot);
  const { values, start } = slots.view(slot);
  const columns = shareOf(width, 8, part);
  addSquares(observation, weight, { values, start: start + row * width, width }, count, columns);
}
