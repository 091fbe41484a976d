/**
 * One member of a team that runs a program: its share of the weights, slots and cache in WebAssembly memory. A backend
 * without threads has one member with everything.
 */

import { createAngles, growAngles } from "./angles.js";
import { callLengthsOf, type Kernels, NO_BATCH, runOp } from "./interpreter.js";
import type { Observation } from "./observe.js";
import type { Batch, Program } from "./program.js";
import { makeSchedule } from "./schedule.js";
import type { Team } from "./team.js";
import type { Banks } from "./wasm-bank.js";
import { Cache } from "./wasm-cache.js";
import { createKernels } from "./wasm-ops.js";
import { Slots } from "./wasm-slots.js";
import type { MemberState, PlacedAngles } from "./wasm-state.js";
import { MemberWeights } from "./wasm-weights.js";

export class Member {
  readonly program: Program;
  readonly banks: Banks;
  readonly slots: Slots;
  readonly weights: MemberWeights;
  #team: Team;
  readonly #state: MemberState;
  readonly #kernels: Kernels;

  constructor(program: Program, banks: Banks, team: Team) {
    this.program = program;
    this.banks = banks;
    this.#team = team;
    const schedule = makeSchedule(program, team.part.count);
    this.slots = new Slots(program, schedule, team.part, banks.first);
    this.weights = new MemberWeights(program, banks, schedule, team.part);
    this.#state = {
      program,
      schedule,
      banks,
      slots: this.slots,
      cache: new Cache(program, team.part, banks.first, this.slots),
      angles: program.ropes.map((table) => ({
        angles: createAngles(table),
        positions: 0,
        cosines: 0,
        sines: 0,
      })),
      weights: this.weights,
      part: team.part,
      observation: null,
      source: null,
      batch: NO_BATCH,
      callLengths: NO_BATCH.tokens,
    };
    this.#kernels = createKernels(this.#state);
  }

  /** The team of the task at hand: each task brings its own barrier. */
  join(team: Team): void {
    this.#team = team;
  }

  /** Adds what goes into linears to these sums from now on; null: no longer. */
  observe(observation: Observation | null): void {
    this.#state.observation = observation;
  }

  /** Runs a step. `arrays` are the shared slots, large enough for the batch. The logits are then in their slot. */
  run(batch: Batch, arrays: readonly (Float32Array | null)[]): void {
    const state = this.#state;
    state.batch = batch;
    state.source = null;
    state.callLengths = callLengthsOf(batch);
    this.slots.prepare(batch, arrays);
    const highest = batch.positions.reduce((most, position) => Math.max(most, position), 0);
    for (const placed of state.angles) this.#placeAngles(placed, highest + 1);
    for (const { op, barrier } of state.schedule.ops) {
      if (barrier) this.#team.barrier();
      else this.#team.check();
      if (op.kind !== "linear") state.source = null;
      runOp(this.#kernels, op);
    }
    // Local logits are the same in all members: one of them hands them out where somebody asks for them.
    const { logits } = this.program;
    const out = arrays[logits];
    if (state.schedule.shared[logits] || !out || this.#team.part.index > 0) return;
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

  /** Gives all memory of this member back to the banks. */
  dispose(): void {
    const bank = this.banks.first;
    const { angles, cache } = this.#state;
    this.weights.dispose();
    for (const { positions, cosines, sines } of angles) {
      if (positions > 0) for (const address of [cosines, sines]) bank.free(address);
    }
    cache.dispose();
    this.slots.dispose();
  }
}
