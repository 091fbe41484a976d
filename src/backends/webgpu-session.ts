/** A program on a GPU: its weights, and steps that are one submission each. */

import { IsqError } from "../errors.js";
import type { Session, SessionOptions, Tensor } from "./backend.js";
import { checkBatch, rowsOf } from "./interpreter.js";
import { createPlacements, type Placements } from "./placements.js";
import { type Batch, CACHE_BLOCK, type Program, type Slot, type WeightIndex } from "./program.js";
import { checkCachePositions, checkPlacement, checkWeightIndex } from "./session-checks.js";
import { usesOf, type WeightUse } from "./wasm-weights.js";
import { Ahead, hasPlace, type StepResult } from "./webgpu-ahead.js";
import type { GpuDevice } from "./webgpu-device.js";
import { chooseWorks, worksOf } from "./webgpu-ops.js";
import { type Recording, type Result, record, type Work } from "./webgpu-recording.js";
import { Room } from "./webgpu-room.js";
import { writeWhole } from "./webgpu-run.js";
import { freeGpuWeight, type GpuWeight, placeGpuWeight, readGpuWeight } from "./webgpu-weights.js";

/** Recordings that are kept: of a token at a time, and of some sizes of prompts. */
const MOST_RECORDINGS = 8;

export interface GpuSessionOptions extends SessionOptions {
  /** Steps that may run ahead of their turn. */
  readonly ahead: number;
}

export class GpuSession implements Session {
  readonly #gpu: GpuDevice;
  readonly #program: Program;
  readonly #blocks: number;
  readonly #uses: readonly WeightUse[];
  readonly #weights: Placements<GpuWeight>;
  readonly #room: Room;
  /** By size of the step. */
  readonly #recordings = new Map<string, Recording>();
  readonly ahead: number;
  readonly #ahead: Ahead;
  readonly #choosesTokens: boolean;
  readonly #ended: () => void;
  #open = true;

  constructor(gpu: GpuDevice, program: Program, options: GpuSessionOptions, ended: () => void) {
    this.#gpu = gpu;
    this.#program = program;
    this.#blocks = Math.ceil(checkCachePositions(options) / CACHE_BLOCK);
    this.#uses = usesOf(program);
    this.#weights = createPlacements(program, (weight) => freeGpuWeight(gpu, weight));
    this.#room = new Room(gpu, program);
    this.ahead = options.ahead;
    this.#ahead = new Ahead(options.ahead, program.contextLength, (batch) => this.#start(batch));
    this.#choosesTokens = options.ahead > 0 && program.slots[program.logits].width === program.vocabulary;
    this.#ended = ended;
  }

  async place(index: WeightIndex, tensor: Tensor): Promise<void> {
    this.#checkOpen();
    checkPlacement(this.#program, index, tensor);
    if (this.#isTable(index, tensor)) {
      const { table } = this.#weights.get(index);
      await this.#gpu.inTurn(async () => {
        this.#ahead.forget();
        writeWhole(this.#gpu, table!.buffer, tensor.data);
      });
      return;
    }
    const placed = await this.#gpu.exclusively(() => placeGpuWeight(this.#gpu, tensor, this.#uses[index]));
    this.#forgetRecordings();
    this.#weights.put(index, placed);
  }

  /** A table in binary32 that takes the place of another: activations that come over a border, in every step. */
  #isTable(index: WeightIndex, { type }: Tensor): boolean {
    const { embedding, rowsTo, vector } = this.#uses[index];
    if (!embedding || rowsTo !== null || vector || type !== "F32" || !this.#weights.settled(index))
      return false;
    return this.#weights.get(index).form.type === "F32";
  }

  async read(index: WeightIndex): Promise<Tensor> {
    this.#checkOpen();
    checkWeightIndex(this.#program, index);
    const weight = this.#weights.get(index);
    return this.#gpu.exclusively(() => readGpuWeight(this.#gpu, weight));
  }

  hold(): void {
    this.#checkOpen();
    this.#weights.hold();
  }

  commit(): void {
    this.#checkOpen();
    this.#forgetRecordings();
    this.#weights.commit();
  }

  discard(): void {
    this.#checkOpen();
    this.#weights.discard();
  }

  run(batch: Batch): Promise<Float32Array> {
    this.#check(batch);
    const count = this.#program.ops.length;
    const run = () => {
      const known = this.#room.holds(batch) ? this.#recordings.get(keyOf(batch, count)) : undefined;
      if (!known) return this.#gpu.guarded(async () => (await this.#prepare(batch, count)).run());
      this.#room.fit(batch);
      return known.run(); // submitted before this returns: steps ahead come after it
    };
    return this.#gpu.inTurn(() => this.#ahead.step(batch, run));
  }

  /** Starts a step whose token the step before it leaves on the GPU, where a step of this size has run before. */
  #start(batch: Batch): Promise<StepResult> | null {
    const recording = this.#recordings.get(keyOf(batch, this.#program.ops.length));
    if (!recording || !this.#choosesTokens || !hasPlace(batch) || !this.#room.holds(batch)) return null;
    this.#room.writeRest(batch);
    return recording.run();
  }

  /** For tests: the given slots after the first `count` operations, all rows of the step. */
  inspect(batch: Batch, count: number, slots: readonly Slot[]): Promise<Float32Array[]> {
    this.#check(batch);
    return this.#gpu.exclusively(async () => {
      this.#ahead.forget();
      await (await this.#prepare(batch, count)).run();
      const ranges = slots.map((slot) => {
        const { at, count: words } = this.#where(batch, slot);
        return { buffer: this.#room.slots, byteOffset: 4 * at, byteLength: 4 * words };
      });
      return this.#gpu.read(this.#gpu.device.createCommandEncoder(), ranges, (parts) =>
        parts.map((bytes, i) => new Float32Array(bytes, 0, ranges[i].byteLength / 4).slice()),
      );
    });
  }

  /**
   * For measurements: the seconds that the GPU takes for a step, or for the part of its work that `only` picks, and the
   * step's dispatches. Needs `timestamp-query`.
   */
  async time(
    batch: Batch,
    only?: (work: Work) => boolean,
  ): Promise<{ readonly seconds: number; readonly dispatches: number }> {
    this.#check(batch);
    return this.#gpu.exclusively(async () => {
      this.#ahead.forget();
      const recording = await this.#prepare(batch, this.#program.ops.length);
      const seconds = await this.#gpu.timePass((pass) => recording.encode(pass, only));
      return { seconds, dispatches: recording.dispatches };
    });
  }

  dispose(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#forgetRecordings();
    this.#weights.clear();
    this.#room.dispose();
    this.#ended();
  }

  #check(batch: Batch): void {
    this.#checkOpen();
    this.#weights.checkAll();
    checkBatch(this.#program, batch, this.#blocks);
  }

  async #prepare(batch: Batch, count: number): Promise<Recording> {
    this.#checkOpen();
    if (this.#room.fit(batch)) this.#forgetRecordings();
    return this.#recordingOf(batch, count);
  }

  async #recordingOf(batch: Batch, count: number): Promise<Recording> {
    const key = keyOf(batch, count);
    const known = this.#recordings.get(key);
    if (known) return known;
    if (this.#recordings.size >= MOST_RECORDINGS) this.#forgetRecordings();
    const stage = { ...this.#room.stage(batch), weight: (index: number) => this.#weights.get(index) };
    const works = worksOf(stage, this.#program.ops.slice(0, count));
    const logits = this.#where(batch, this.#program.logits);
    const isFollowed = this.#choosesTokens && stage.tokens === 1 && stage.outputs === 1;
    const choice = { at: this.#room.choiceAt, next: stage.batch };
    if (isFollowed) works.push(...chooseWorks(stage, logits, choice.at));
    const made = await record(this.#gpu, works, isFollowed ? { ...logits, choice } : logits);
    this.#recordings.set(key, made);
    return made;
  }

  #where(batch: Batch, slot: Slot): Result {
    const count = rowsOf(this.#program, batch, slot) * this.#program.slots[slot].width;
    return { buffer: this.#room.slots, at: this.#room.slotAt(slot), count };
  }

  #forgetRecordings(): void {
    this.#ahead.forget();
    for (const recording of this.#recordings.values()) recording.dispose();
    this.#recordings.clear();
  }

  #checkOpen(): void {
    this.#gpu.check();
    if (!this.#open) throw new IsqError("backend/disposed", "the session was disposed");
  }
}

const keyOf = ({ tokens, outputs }: Batch, count: number): string =>
  `${tokens.length} ${outputs.length} ${count}`;
