/** Activation matrices of a member: local ones in its WebAssembly memory, shared ones in an array that all members see. */

import { type Part, rowsOf } from "./interpreter.js";
import type { Batch, Program, Slot } from "./program.js";
import { type Columns, columnsOf, type Schedule } from "./schedule.js";
import type { Bank } from "./wasm-bank.js";

interface Local {
  address: number;
  elements: number;
}

export class Slots {
  readonly #program: Program;
  readonly #bank: Bank;
  readonly #local: Local[];
  readonly #shared: readonly boolean[];
  readonly #columns: readonly Columns[];
  #arrays: readonly (Float32Array | null)[] = [];

  constructor(program: Program, schedule: Schedule, part: Part, bank: Bank) {
    this.#program = program;
    this.#bank = bank;
    this.#shared = schedule.shared;
    this.#local = program.slots.map(() => ({ address: 0, elements: 0 }));
    this.#columns = program.slots.map((_, slot) => columnsOf(program, schedule, slot, part));
  }

  /** Makes room for a batch. `arrays` are the shared slots. Throws `backend/memory`. */
  prepare(batch: Batch, arrays: readonly (Float32Array | null)[]): void {
    this.#arrays = arrays;
    for (let slot = 0; slot < this.#local.length; slot++) {
      if (this.#shared[slot]) continue;
      const elements = rowsOf(this.#program, batch, slot) * this.#program.slots[slot].width;
      const local = this.#local[slot];
      if (elements <= local.elements) continue;
      if (local.elements > 0) this.#bank.free(local.address);
      local.elements = 0;
      local.address = this.#bank.allocate(4 * elements);
      local.elements = elements;
    }
  }

  width(slot: Slot): number {
    return this.#program.slots[slot].width;
  }

  /** The columns that this member writes: all of them where the slot is local. */
  columns(slot: Slot): Columns {
    return this.#columns[slot];
  }

  /** Where row `row` of a local slot is, or null for a shared one. */
  address(slot: Slot, row: number): number | null {
    if (this.#shared[slot]) return null;
    return this.#local[slot].address + 4 * row * this.width(slot);
  }

  /** The slot's values and where row 0 starts. */
  view(slot: Slot): { values: Float32Array; start: number } {
    if (this.#shared[slot]) return { values: this.#arrays[slot]!, start: 0 };
    return { values: this.#bank.floats, start: this.#local[slot].address / 4 };
  }

  /** Copies columns of `count` rows to `address` of a bank, row after row. */
  load(slot: Slot, [first, last]: Columns, row: number, count: number, bank: Bank, address: number): void {
    const { values, start } = this.view(slot);
    const width = this.width(slot);
    const target = bank.floats;
    if (last - first === width) {
      target.set(values.subarray(start + row * width, start + (row + count) * width), address / 4);
      return;
    }
    for (let r = 0; r < count; r++) {
      const from = start + (row + r) * width;
      target.set(values.subarray(from + first, from + last), address / 4 + r * (last - first));
    }
  }

  /** Copies this member's columns of `count` rows out of memory at `address`, where rows have `width` floats. */
  store(slot: Slot, row: number, count: number, bank: Bank, address: number, width: number): void {
    const { values, start } = this.view(slot);
    const [first, last] = this.#columns[slot];
    const skip = width === last - first ? 0 : first;
    for (let r = 0; r < count; r++) {
      const from = address / 4 + r * width + skip;
      const part = bank.floats.subarray(from, from + last - first);
      values.set(part, start + (row + r) * this.width(slot) + first);
    }
  }

  dispose(): void {
    for (const local of this.#local) if (local.elements > 0) this.#bank.free(local.address);
    for (const local of this.#local) local.elements = 0;
  }
}
