/** A member's share of the weights of a program: matrices by rows in WebAssembly memory, tables and vectors whole. */

import { rowElements } from "../quants/tensor.js";
import type { Tensor } from "./backend.js";
import type { Part } from "./interpreter.js";
import { createPlacements, type Placements } from "./placements.js";
import type { Program, Slot, WeightIndex } from "./program.js";
import { openRows } from "./reference-linear.js";
import { type Columns, columnsOf, type Schedule } from "./schedule.js";
import type { Team } from "./team.js";
import type { Bank, Banks } from "./wasm-bank.js";
import { freeRows, type PlacedRows, placeRows } from "./wasm-linear.js";
import { copyTensor, type ReadTarget, readRows } from "./wasm-read.js";

const f32 = Math.fround;

/** What a weight is used for in a program. */
export interface WeightUse {
  readonly embedding: boolean;
  /** One row for norms and biases; a norm may add something to all of it. */
  readonly vector: { readonly offset: number } | null;
  /** The slot whose columns are the weight's rows. */
  readonly rowsTo: Slot | null;
}

export function usesOf(program: Program): WeightUse[] {
  const uses: WeightUse[] = program.weights.map(() => ({ embedding: false, vector: null, rowsTo: null }));
  const use = (weight: WeightIndex, how: Partial<WeightUse>) => {
    uses[weight] = { ...uses[weight], ...how };
  };
  const plain = { vector: { offset: 0 } };
  for (const op of program.ops) {
    if (op.kind === "embed") use(op.weight, { embedding: true });
    if (op.kind === "rmsNorm") use(op.weight, { vector: { offset: op.offset ?? 0 } });
    if (op.kind === "layerNorm") for (const weight of [op.weight, op.bias]) use(weight, plain);
    if (op.kind === "linear") {
      use(op.weight, { rowsTo: op.out });
      if (op.bias !== undefined) use(op.bias, plain);
    }
    if (op.kind === "route" && op.router.kind === "scores" && op.router.bias !== undefined) {
      use(op.router.bias, plain);
    }
    if (op.kind === "expertLinear") for (const weight of op.experts) use(weight, { rowsTo: op.out });
  }
  return uses;
}

export type HoldStep = "hold" | "commit" | "discard";

/** A vector, and where it is in memory: there with the offset of its norm added. */
export interface PlacedVector {
  readonly values: Float32Array;
  readonly address: number;
}

/** A weight's parts, by what it is used for. */
interface MemberWeight {
  readonly rows: PlacedRows | null;
  readonly table: Tensor | null;
  readonly vector: PlacedVector | null;
}

export class MemberWeights {
  readonly #program: Program;
  readonly #banks: Banks;
  readonly #schedule: Schedule;
  readonly #part: Part;
  readonly #uses: readonly WeightUse[];
  readonly #placed: Placements<MemberWeight>;

  constructor(program: Program, banks: Banks, schedule: Schedule, part: Part) {
    this.#program = program;
    this.#banks = banks;
    this.#schedule = schedule;
    this.#part = part;
    this.#uses = usesOf(program);
    this.#placed = createPlacements(program, (weight: MemberWeight) => this.#free(weight));
  }

  /** Rows of a weight that this member holds, or null when it is no matrix of a linear. */
  rowsOf(weight: WeightIndex): Columns | null {
    const slot = this.#uses[weight].rowsTo;
    return slot === null ? null : columnsOf(this.#program, this.#schedule, slot, this.#part);
  }

  /**
   * Takes this member's share of a weight. What was there before stays in force until all members have theirs. Throws
   * `backend/memory` in all of them or in none.
   */
  async place(weight: WeightIndex, tensor: Tensor, team: Team): Promise<void> {
    const share = this.rowsOf(weight);
    const { embedding, vector } = this.#uses[weight];
    this.#put(
      weight,
      {
        rows: share && (await placeRows(this.#banks, tensor, ...share)),
        table: embedding ? tensor : null,
        vector: vector && placeVector(this.#banks.first, tensor, vector.offset),
      },
      team,
    );
  }

  /** As {@link place}, of rows that are in memory already. */
  putRows(weight: WeightIndex, rows: PlacedRows, team: Team): void {
    this.#put(weight, { rows, table: null, vector: null }, team);
  }

  /** Puts a weight in force, or holds it, once all members have come so far; frees it when one has failed. */
  #put(weight: WeightIndex, made: MemberWeight, team: Team): void {
    try {
      team.barrier();
    } catch (error) {
      this.#free(made);
      throw error;
    }
    this.#placed.put(weight, made);
  }

  /** What waits to be put in force, as of a session. All members are told together, and nothing of it can fail. */
  turn(step: HoldStep): void {
    this.#placed[step]();
  }

  rows(weight: WeightIndex): PlacedRows {
    return this.#placed.get(weight).rows!;
  }

  table(weight: WeightIndex): Tensor {
    return this.#placed.get(weight).table!;
  }

  vector(weight: WeightIndex): PlacedVector {
    return this.#placed.get(weight).vector!;
  }

  /** Copies what this member has of a weight to where it belongs; see {@link ReadTarget}. */
  read(weight: WeightIndex, target: ReadTarget): void {
    const { rows, table, vector } = this.#placed.get(weight);
    if (rows) readRows(rows, target);
    else if (this.#part.index > 0) return;
    else if (vector) target.data.set(new Uint8Array(vector.values.buffer));
    else if (table) copyTensor(table, target);
  }

  /** Gives all memory back to the banks. */
  dispose(): void {
    this.#placed.clear();
  }

  #free({ rows, vector }: MemberWeight): void {
    if (rows) freeRows(rows);
    if (vector) this.#banks.first.free(vector.address);
  }
}

/** A one-row tensor, decoded. */
function placeVector(bank: Bank, tensor: Tensor, offset: number): PlacedVector {
  const reader = openRows(tensor);
  const start = reader.seek(0);
  const values = reader.values.slice(start, start + rowElements(tensor.shape));
  const address = bank.allocate(4 * values.length);
  const added = f32(offset);
  bank.floats.set(added === 0 ? values : values.map((value) => f32(added + value)), address / 4);
  return { values, address };
}
