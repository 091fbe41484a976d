/** A program on a GPU: its weights, and steps that are one submission each. */

import { IsqError } from "../errors.js";
import type { Session, SessionOptions, Tensor } from "./backend.js";
import { checkBatch, rowsOf } from "./interpreter.js";
import { createPlacements, type Placements } from "./placements.js";
import { type Batch, CACHE_BLOCK, type Program, type Slot, type WeightIndex } from "./program.js";
import { checkCachePositions, checkPlacement, checkWeightIndex } from "./session-checks.js";
import { usesOf, type WeightUse } from "./wasm-weights.js";
import type { GpuDevice } from "./webgpu-device.js";
import { worksOf } from "./webgpu-ops.js";
import { type Recording, record } from "./webgpu-recording.js";
import { Room } from "./webgpu-room.js";
import { freeGpuWeight, type GpuWeight, placeGpuWeight, readGpuWeight } from "./webgpu-weights.js";

/** Recordings that are kept: of a token at a time, and of some sizes of prompts. */
const MOST_RECORDINGS = 8;

export class GpuSession implements Session {
  readonly #gpu: GpuDevice;
  readonly #program: Program;
  readonly #blocks: number;
  readonly #uses: readonly WeightUse[];
  readonly #weights: Placements<GpuWeight>;
  readonly #room: Room;
  /** By size of the step. */
  readonly #recordings = new Map<string, Recording>();
  #open = true;

  constructor(gpu: GpuDevice, program: Program, options: SessionOptions) {
    this.#gpu = gpu;
    this.#program = program;
    this.#blocks = Math.ceil(checkCachePositions(options) / CACHE_BLOCK);
    this.#uses = usesOf(program);
    this.#weights = createPlacements(program, (weight) => freeGpuWeight(gpu, weight));
    this.#room = new Room(gpu, program);
  }

  async place(index: WeightIndex, tensor: Tensor): Promise<void> {
    this.#checkOpen();
    checkPlacement(this.#program, index, tensor);
    const placed = await this.#gpu.exclusively(() => placeGpuWeight(this.#gpu, tensor, this.#uses[index]));
    this.#forgetRecordings();
    this.#weights.put(index, placed);
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

  async run(batch: Batch): Promise<Float32Array> {
    const [logits] = await this.#step(batch, [this.#program.logits]);
    return logits;
  }

  /** For tests: the given slots after the first `count` operations, all rows of the step. */
  inspect(batch: Batch, count: number, slots: readonly Slot[]): Promise<Float32Array[]> {
    return this.#step(batch, slots, count);
  }

  dispose(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#forgetRecordings();
    this.#weights.clear();
    this.#room.dispose();
  }

  #step(batch: Batch, slots: readonly Slot[], count = this.#program.ops.length): Promise<Float32Array[]> {
    this.#checkOpen();
    this.#weights.checkAll();
    checkBatch(this.#program, batch, this.#blocks);
    return this.#gpu.exclusively(async () => {
      this.#checkOpen();
      if (this.#room.fit(batch)) this.#forgetRecordings();
      const recording = await this.#recordingOf(batch, count);
      const encoder = this.#gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      recording.encode(pass);
      pass.end();
      const ranges = slots.map((slot) => ({
        buffer: this.#room.slots,
        byteOffset: 4 * this.#room.slotAt(slot),
        byteLength: 4 * rowsOf(this.#program, batch, slot) * this.#program.slots[slot].width,
      }));
      return this.#gpu.read(encoder, ranges, (parts) =>
        parts.map((bytes, i) => new Float32Array(bytes, 0, ranges[i].byteLength / 4).slice()),
      );
    });
  }

  async #recordingOf(batch: Batch, count: number): Promise<Recording> {
    const key = `${batch.tokens.length} ${batch.outputs.length} ${count}`;
    const known = this.#recordings.get(key);
    if (known) return known;
    if (this.#recordings.size >= MOST_RECORDINGS) this.#forgetRecordings();
    const stage = { ...this.#room.stage(batch), weight: (index: number) => this.#weights.get(index) };
    const made = await record(this.#gpu, worksOf(stage, this.#program.ops.slice(0, count)));
    this.#recordings.set(key, made);
    return made;
  }

  #forgetRecordings(): void {
    for (const recording of this.#recordings.values()) recording.dispose();
    this.#recordings.clear();
  }

  #checkOpen(): void {
    this.#gpu.check();
    if (!this.#open) throw new IsqError("backend/disposed", "the session was disposed");
  }
}
