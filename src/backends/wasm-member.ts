/**
 * One member of a team that runs a program: its share of the weights, slots and cache in WebAssembly memory, and the
 * operations on them. A backend without threads has one member with everything.
 */

import { TYPES } from "../quants/table.js";
import { type Angles, createAngles, growAngles } from "./angles.js";
import { type OpOf, rowsOf } from "./interpreter.js";
import { addSquares, type Observation } from "./observe.js";
import type { Batch, Op, Program, Slot } from "./program.js";
import { isDense } from "./reference-linear.js";
import { type Columns, makeSchedule, type Schedule } from "./schedule.js";
import { shareOf, type Team } from "./team.js";
import type { Banks } from "./wasm-bank.js";
import { Cache } from "./wasm-cache.js";
import { decodeGroupedRow, decodeRun, unitOf } from "./wasm-decode.js";
import { multiplyRows } from "./wasm-linear.js";
import { Slots } from "./wasm-slots.js";
import { MemberWeights } from "./wasm-weights.js";

/** Bytes of one operation's arguments that are brought into memory at a time. */
const STAGE_BYTES = 2 ** 20;

interface PlacedAngles {
  readonly angles: Angles;
  positions: number;
  cosines: number;
  sines: number;
}

export class Member {
  readonly program: Program;
  readonly schedule: Schedule;
  readonly banks: Banks;
  readonly slots: Slots;
  #team: Team;
  #observation: Observation | null = null;
  readonly weights: MemberWeights;
  readonly #angles: readonly PlacedAngles[];
  readonly #cache: Cache;

  constructor(program: Program, banks: Banks, team: Team) {
    this.program = program;
    this.banks = banks;
    this.#team = team;
    this.schedule = makeSchedule(program, team.part.count);
    this.slots = new Slots(program, this.schedule, team.part, banks.first);
    this.weights = new MemberWeights(program, banks, this.schedule, team.part);
    this.#cache = new Cache(program, team.part, banks.first, this.slots);
    this.#angles = program.ropes.map((table) => ({
      angles: createAngles(table),
      positions: 0,
      cosines: 0,
      sines: 0,
    }));
  }

  /** The team of the task at hand: each task brings its own barrier. */
  join(team: Team): void {
    this.#team = team;
  }

  /** Adds what goes into linears to these sums from now on; null: no longer. */
  observe(observation: Observation | null): void {
    this.#observation = observation;
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
    const tensor = this.weights.table(op.weight);
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
    const { address: weight } = this.weights.vector(op.weight);
    this.#inRuns(rows, 2 * count, (row, run) => {
      const [stage, stageOut] = bank.scratch(4 * count * run, 4 * count * run);
      const direct = count === width ? this.slots.address(op.out, row) : null;
      const target = direct ?? stageOut;
      const x = this.#bring(op.x, columns, row, run, stage);
      const runs = (count * run) / op.width;
      bank.call("rms_norm", x, weight, target, runs, op.width, op.epsilon);
      if (direct === null) this.slots.store(op.out, row, run, bank, stageOut, count);
    });
  }

  #linear(op: OpOf<"linear">, rows: number): void {
    const bias = op.bias === undefined ? undefined : this.weights.vector(op.bias).values;
    if (this.#observation) this.#observe(this.#observation, op, rows);
    const x: Columns = [0, this.slots.width(op.x)];
    const width = this.slots.width(op.out);
    multiplyRows(
      this.weights.rows(op.weight),
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

  /** Members share the columns of what is observed, so that no two write to one sum. */
  #observe(observation: Observation, op: OpOf<"linear">, rows: number): void {
    const width = this.slots.width(op.x);
    const columns = shareOf(width, 8, this.#team.part);
    addSquares(observation, op.weight, { ...this.slots.view(op.x), width }, rows, columns);
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
    this.weights.dispose();
    for (const { positions, cosines, sines } of this.#angles) {
      if (positions > 0) for (const address of [cosines, sines]) bank.free(address);
    }
    this.#cache.dispose();
    this.slots.dispose();
  }
}
