/**
 * One member of a team that runs a program: its share of the weights, slots and cache in WebAssembly memory, and the
 * operations on them. A backend without threads has one member with everything.
 */

import { TYPES } from "../quants/table.js";
import { rowElements } from "../quants/tensor.js";
import { type Angles, createAngles, growAngles } from "./angles.js";
import type { Tensor } from "./backend.js";
import { type OpOf, rowsOf } from "./interpreter.js";
import type { Batch, Op, Program, Slot, WeightIndex } from "./program.js";
import { isDense, openRows } from "./reference-linear.js";
import { type Columns, columnsOf, makeSchedule, type Schedule } from "./schedule.js";
import type { Team } from "./team.js";
import type { Banks } from "./wasm-bank.js";
import { Cache } from "./wasm-cache.js";
import { decodeGroupedRow, decodeRun, unitOf } from "./wasm-decode.js";
import { freeRows, multiplyRows, type PlacedRows, placeRows } from "./wasm-linear.js";
import { Slots } from "./wasm-slots.js";

/** Bytes of one operation's arguments that are brought into memory at a time. */
const STAGE_BYTES = 2 ** 20;

interface PlacedAngles {
  readonly angles: Angles;
  positions: number;
  cosines: number;
  sines: number;
}

/** What a weight is used for in a program. */
export interface WeightUse {
  readonly embedding: boolean;
  readonly vector: boolean;
  /** The slot whose columns are the weight's rows. */
  readonly rowsTo: Slot | null;
}

export function usesOf(program: Program): WeightUse[] {
  const uses = program.weights.map(() => ({ embedding: false, vector: false, rowsTo: null as Slot | null }));
  for (const op of program.ops) {
    if (op.kind === "embed") uses[op.weight].embedding = true;
    if (op.kind === "rmsNorm") uses[op.weight].vector = true;
    if (op.kind === "linear") {
      uses[op.weight].rowsTo = op.out;
      if (op.bias !== undefined) uses[op.bias].vector = true;
    }
  }
  return uses;
}

export class Member {
  readonly program: Program;
  readonly schedule: Schedule;
  readonly banks: Banks;
  readonly slots: Slots;
  #team: Team;
  readonly #uses: readonly WeightUse[];
  readonly #rows: (PlacedRows | undefined)[] = [];
  readonly #tables: (Tensor | undefined)[] = [];
  readonly #vectors: (Float32Array | undefined)[] = [];
  readonly #vectorAddresses: number[] = [];
  readonly #angles: readonly PlacedAngles[];
  readonly #cache: Cache;

  constructor(program: Program, banks: Banks, team: Team) {
    this.program = program;
    this.banks = banks;
    this.#team = team;
    this.schedule = makeSchedule(program, team.part.count);
    this.slots = new Slots(program, this.schedule, team.part, banks.first);
    this.#uses = usesOf(program);
    this.#cache = new Cache(program, team.part, banks.first, this.slots);
    this.#angles = program.ropes.map((table) => ({
      angles: createAngles(table),
      positions: 0,
      cosines: 0,
      sines: 0,
    }));
  }

  /** Rows of a weight that this member holds, or null when it is no matrix of a linear. */
  rowsOf(weight: WeightIndex): Columns | null {
    const slot = this.#uses[weight].rowsTo;
    return slot === null ? null : columnsOf(this.program, this.schedule, slot, this.#team.part);
  }

  /**
   * Takes its share of a weight. What was there before stays in force until all members have theirs. Throws
   * `backend/memory` in all of them or in none.
   */
  async place(weight: WeightIndex, tensor: Tensor): Promise<void> {
    const share = this.rowsOf(weight);
    const rows = share && (await placeRows(this.banks, tensor, ...share));
    this.commitRows(weight, rows);
    const { embedding, vector } = this.#uses[weight];
    if (embedding) this.#tables[weight] = tensor;
    if (vector) this.#placeVector(weight, tensor);
  }

  /** Puts rows in force once all members have come so far; frees them when one has failed. */
  commitRows(weight: WeightIndex, rows: PlacedRows | null): void {
    try {
      this.#team.barrier();
    } catch (error) {
      if (rows) freeRows(rows);
      throw error;
    }
    const before = this.#rows[weight];
    if (rows) this.#rows[weight] = rows;
    if (before) freeRows(before);
  }

  /** The team of the task at hand: each task brings its own barrier. */
  join(team: Team): void {
    this.#team = team;
  }

  #placeVector(weight: WeightIndex, tensor: Tensor): void {
    const reader = openRows(tensor);
    const start = reader.seek(0);
    const values = reader.values.slice(start, start + rowElements(tensor.shape));
    const bank = this.banks.first;
    this.#vectorAddresses[weight] ??= bank.allocate(4 * values.length);
    bank.floats.set(values, this.#vectorAddresses[weight] / 4);
    this.#vectors[weight] = values;
  }

  /** Runs a step. `arrays` are the shared slots, large enough for the batch. The logits are then in their slot. */
  run(batch: Batch, arrays: readonly (Float32Array | null)[]): void {
    this.slots.prepare(batch, arrays);
    const highest = batch.positions.reduce((most, position) => Math.max(most, position), 0);
    for (const placed of this.#angles) this.#placeAngles(placed, highest + 1);
    for (const { op, barrier } of this.schedule.ops) {
      if (barrier) this.#team.barrier();
      else this.#team.check();
      this.#runOp(op, batch);
    }
    // Local logits are the same in all members: one of them hands them out where somebody asks for them.
    const { logits } = this.program;
    const out = arrays[logits];
    if (this.schedule.shared[logits] || !out || this.#team.part.index > 0) return;
    const { values, start } = this.slots.view(logits);
    out.set(values.subarray(start, start + batch.outputs.length * this.slots.width(logits)));
  }

  #placeAngles(placed: PlacedAngles, positions: number): void {
    if (positions <= placed.positions) return;
    growAngles(placed.angles, positions);
    const bank = this.banks.first;
    if (placed.positions > 0) for (const address of [placed.cosines, placed.sines]) bank.free(address);
    const { cosines, sines } = placed.angles;
    placed.cosines = bank.allocate(4 * cosines.length);
    placed.sines = bank.allocate(4 * sines.length);
    bank.floats.set(cosines, placed.cosines / 4);
    bank.floats.set(sines, placed.sines / 4);
    placed.positions = placed.angles.positions;
  }

  #runOp(op: Op, batch: Batch): void {
    const bank = this.banks.first;
    switch (op.kind) {
      case "embed":
        this.#embed(op, batch);
        break;
      case "rmsNorm":
        this.#norm(op, rowsOf(this.program, batch, op.x));
        break;
      case "linear":
        this.#linear(op, rowsOf(this.program, batch, op.x));
        break;
      case "rope":
        this.#rope(op, batch);
        break;
      case "attention":
        this.#cache.attend(op, batch);
        break;
      case "gate":
        this.#columnwise([op.gate, op.up], op.out, batch, (...args) => bank.call("gate_silu", ...args));
        break;
      case "add":
        this.#columnwise([op.a, op.b], op.out, batch, (...args) => bank.call("add_rows", ...args));
        break;
      case "select":
        this.#select(op, batch);
        break;
    }
  }

  /** Calls `kernel` on runs of rows of two slots, in the columns that this member writes. */
  #columnwise(
    [a, b]: readonly [Slot, Slot],
    out: Slot,
    batch: Batch,
    kernel: (a: number, b: number, out: number, count: number) => void,
  ): void {
    const columns = this.slots.columns(out);
    const width = columns[1] - columns[0];
    this.#inRuns(rowsOf(this.program, batch, out), 3 * width, (row, count) => {
      const size = 4 * width * count;
      const bank = this.banks.first;
      const [stageA, stageB, stageOut] = bank.scratch(size, size, size);
      const target = this.slots.address(out, row) ?? stageOut;
      kernel(
        this.#bring(a, columns, row, count, stageA),
        this.#bring(b, columns, row, count, stageB),
        target,
        width * count,
      );
      if (target === stageOut) this.slots.store(out, row, count, bank, stageOut, width);
    });
  }

  /** Rows in runs of which `floats` per row stay below the limit of a stage. */
  #inRuns(rows: number, floats: number, visit: (row: number, count: number) => void): void {
    const most = Math.max(1, Math.floor(STAGE_BYTES / (4 * Math.max(1, floats))));
    for (let row = 0; row < rows; row += most) visit(row, Math.min(most, rows - row));
  }

  /** The address of columns of rows: where they are if that is local and all of them, else a copy at `stage`. */
  #bring(slot: Slot, columns: Columns, row: number, count: number, stage: number): number {
    const address = this.slots.address(slot, row);
    if (address !== null && columns[1] - columns[0] === this.slots.width(slot)) return address;
    this.slots.load(slot, columns, row, count, this.banks.first, stage);
    return stage;
  }

  #embed(op: OpOf<"embed">, batch: Batch): void {
    const tensor = this.#tables[op.weight]!;
    const bank = this.banks.first;
    const width = this.slots.width(op.out);
    const { elements, bytes } = unitOf(tensor.type);
    const rowBytes = (width / elements) * bytes;
    const grouped = !isDense(tensor) && TYPES[tensor.type].family === "group";
    const [src, dst] = bank.scratch(rowBytes, 4 * width);
    for (let row = 0; row < batch.tokens.length; row++) {
      const token = batch.tokens[row];
      if (grouped) decodeGroupedRow(tensor, token, bank.floats.subarray(dst / 4, dst / 4 + width));
      else {
        bank.bytes.set(tensor.data.subarray(token * rowBytes, (token + 1) * rowBytes), src);
        decodeRun(bank, tensor, src, dst, width);
      }
      if (op.scale !== undefined) bank.call("scale_rows", dst, dst, width, op.scale);
      this.slots.store(op.out, row, 1, bank, dst, width);
    }
  }

  #norm(op: OpOf<"rmsNorm">, rows: number): void {
    const bank = this.banks.first;
    const width = this.slots.width(op.x);
    // Norms of heads are done in the columns that are written; a norm of whole rows needs all of them.
    const columns: Columns = op.width < width ? this.slots.columns(op.out) : [0, width];
    const count = columns[1] - columns[0];
    this.#inRuns(rows, 2 * count, (row, run) => {
      const [stage, stageOut] = bank.scratch(4 * count * run, 4 * count * run);
      const direct = count === width ? this.slots.address(op.out, row) : null;
      const target = direct ?? stageOut;
      const x = this.#bring(op.x, columns, row, run, stage);
      const runs = (count * run) / op.width;
      bank.call("rms_norm", x, this.#vectorAddresses[op.weight], target, runs, op.width, op.epsilon);
      if (direct === null) this.slots.store(op.out, row, run, bank, stageOut, count);
    });
  }

  #linear(op: OpOf<"linear">, rows: number): void {
    const bias = op.bias === undefined ? undefined : this.#vectors[op.bias];
    const x: Columns = [0, this.slots.width(op.x)];
    const width = this.slots.width(op.out);
    multiplyRows(
      this.#rows[op.weight]!,
      rows,
      (row, count, bank, address) => this.slots.load(op.x, x, row, count, bank, address),
      (row, first, outputs) => {
        const { values, start } = this.slots.view(op.out);
        const at = start + row * width + first;
        if (!bias) values.set(outputs, at);
        else for (let o = 0; o < outputs.length; o++) values[at + o] = outputs[o] + bias[first + o];
      },
    );
  }

  #rope(op: OpOf<"rope">, batch: Batch): void {
    const bank = this.banks.first;
    const { angles, cosines, sines } = this.#angles[op.table];
    const pairs = angles.table.rotaryWidth / 2;
    const columns = this.slots.columns(op.x);
    const width = columns[1] - columns[0];
    if (width === 0) return;
    const heads = width / op.headWidth;
    const [stage] = bank.scratch(4 * width);
    for (let row = 0; row < rowsOf(this.program, batch, op.x); row++) {
      const x = this.#bring(op.x, columns, row, 1, stage);
      const angle = 4 * batch.positions[row] * pairs;
      bank.call("rotate_heads", x, heads, 4 * op.headWidth, pairs, cosines + angle, sines + angle);
      if (x === stage) this.slots.store(op.x, row, 1, bank, stage, width);
    }
  }

  #select(op: OpOf<"select">, batch: Batch): void {
    const bank = this.banks.first;
    const width = this.slots.width(op.x);
    const [stage] = bank.scratch(4 * width);
    for (let i = 0; i < batch.outputs.length; i++) {
      this.slots.load(op.x, [0, width], batch.outputs[i], 1, bank, stage);
      this.slots.store(op.out, i, 1, bank, stage, width);
    }
  }

  /** Gives all memory of this member back to the banks. */
  dispose(): void {
    const bank = this.banks.first;
    for (const rows of this.#rows) if (rows) freeRows(rows);
    for (const address of this.#vectorAddresses) if (address !== undefined) bank.free(address);
    for (const { positions, cosines, sines } of this.#angles) {
      if (positions > 0) for (const address of [cosines, sines]) bank.free(address);
    }
    this.#cache.dispose();
    this.slots.dispose();
    this.#rows.length = this.#tables.length = this.#vectors.length = this.#vectorAddresses.length = 0;
  }
}
