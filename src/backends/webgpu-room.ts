/** The buffers that a running program works in: slots, cache, angles, and what a step says of its rows. They grow. */

import { type Angles, createAngles, growAngles } from "./angles.js";
import { callLengthsOf } from "./interpreter.js";
import type { Batch, Program, Slot } from "./program.js";
import { type GpuDevice, USAGE } from "./webgpu-device.js";
import { cacheBlockBytes, type Stage } from "./webgpu-ops.js";

const STORAGE = USAGE.STORAGE | USAGE.COPY_DST | USAGE.COPY_SRC;
/** Words; slots start where bindings may. */
const SLOT_GRAIN = 64;
/** Of gpu/choose.wgsl: the choice, and two words of each workgroup. */
const CHOICE_WORDS = 256;

export class Room {
  readonly #gpu: GpuDevice;
  readonly #program: Program;
  readonly #angles: readonly Angles[];
  readonly #buffers = new Map<string, GPUBuffer>();
  /** Rows that slots have room for. */
  #tokens = 0;
  #outputs = 0;
  #slotAt: number[] = [];
  #choiceAt = 0;
  #cacheBlocks = 0;

  constructor(gpu: GpuDevice, program: Program) {
    this.#gpu = gpu;
    this.#program = program;
    this.#angles = program.ropes.map(createAngles);
    for (const name of ["unused0", "unused1", "unused2"]) this.#make(name, 16);
  }

  slotAt(slot: Slot): number {
    return this.#slotAt[slot];
  }

  /** The first word of what gpu/choose.wgsl writes. */
  get choiceAt(): number {
    return this.#choiceAt;
  }

  get slots(): GPUBuffer {
    return this.#buffers.get("slots")!;
  }

  /** Whether there is room for a step already. */
  holds(batch: Batch): boolean {
    return (
      this.#hasSlots(batch) &&
      this.#hasCache(batch) &&
      this.#hasAngles(batch) &&
      this.#hasBatch(wordsOf(batch))
    );
  }

  /** Makes room for a step and says what it consists of. True when recordings that were made before are of no use. */
  fit(batch: Batch): boolean {
    const changes = [
      this.#fitSlots(batch),
      this.#fitCache(batch),
      this.#fitAngles(batch),
      this.#write(batch),
    ];
    return changes.includes(true);
  }

  /** What operations see. */
  stage(batch: Batch): Omit<Stage, "weight"> {
    const { ropes, cacheLayers } = this.#program;
    const get = (name: string) => this.#buffers.get(name)!;
    return {
      gpu: this.#gpu,
      program: this.#program,
      tokens: batch.tokens.length,
      outputs: batch.outputs.length,
      batch: get("batch"),
      slots: get("slots"),
      slotAt: this.#slotAt,
      prepared: get("prepared"),
      sides: get("sides"),
      angles: ropes.map((_, i) => get(`angles${i}`)),
      cache: Array.from({ length: cacheLayers }, (_, layer) => get(`cache${layer}`)),
      unused: [get("unused0"), get("unused1"), get("unused2")],
    };
  }

  dispose(): void {
    for (const buffer of this.#buffers.values()) this.#gpu.free(buffer);
    this.#buffers.clear();
  }

  #make(name: string, byteLength: number): GPUBuffer {
    const before = this.#buffers.get(name);
    this.#buffers.delete(name);
    if (before) this.#gpu.free(before);
    const made = this.#gpu.allocate(name.replace(/\d+$/, ""), byteLength, STORAGE);
    this.#buffers.set(name, made);
    return made;
  }

  #hasSlots({ tokens, outputs }: Pick<Batch, "tokens" | "outputs">): boolean {
    return tokens.length <= this.#tokens && outputs.length <= this.#outputs;
  }

  #hasCache({ blockTables }: Batch): boolean {
    return this.#program.cacheLayers === 0 || highestOf(blockTables) < this.#cacheBlocks;
  }

  #hasAngles({ positions }: Batch): boolean {
    const highest = Math.max(0, highestOf([positions]));
    return this.#angles.every((angles) => highest < angles.positions);
  }

  #hasBatch(words: number): boolean {
    return (this.#buffers.get("batch")?.size ?? 0) >= 4 * words;
  }

  #fitSlots({ tokens, outputs }: Batch): boolean {
    if (this.#hasSlots({ tokens, outputs })) return false;
    this.#tokens = Math.max(tokens.length, this.#tokens);
    this.#outputs = Math.max(outputs.length, this.#outputs);
    let at = 0;
    let widest = 0;
    this.#slotAt = this.#program.slots.map(({ width, rows, rowsPerToken = 1 }) => {
      const start = at;
      const elements = (rows === "tokens" ? this.#tokens * rowsPerToken : this.#outputs) * width;
      at += Math.ceil(elements / SLOT_GRAIN) * SLOT_GRAIN;
      widest = Math.max(widest, elements);
      return start;
    });
    this.#choiceAt = at;
    this.#make("slots", 4 * (at + CHOICE_WORDS));
    this.#make("prepared", widest);
    this.#make("sides", widest / 4);
    return true;
  }

  /** Blocks up to the highest that the step names; a larger cache starts with what the smaller one had. */
  #fitCache(batch: Batch): boolean {
    if (this.#hasCache(batch)) return false;
    const blocks = Math.max(highestOf(batch.blockTables) + 1, 2 * this.#cacheBlocks, 4);
    const blockBytes = cacheBlockBytes(this.#program);
    const encoder = this.#gpu.device.createCommandEncoder();
    const old: GPUBuffer[] = [];
    for (let layer = 0; layer < this.#program.cacheLayers; layer++) {
      const name = `cache${layer}`;
      const before = this.#buffers.get(name);
      this.#buffers.delete(name);
      const made = this.#make(name, blocks * blockBytes);
      if (!before) continue;
      encoder.copyBufferToBuffer(before, 0, made, 0, this.#cacheBlocks * blockBytes);
      old.push(before);
    }
    this.#gpu.device.queue.submit([encoder.finish()]);
    for (const buffer of old) this.#gpu.free(buffer);
    this.#cacheBlocks = blocks;
    return true;
  }

  #fitAngles({ positions }: Batch): boolean {
    const highest = Math.max(0, highestOf([positions]));
    let changed = false;
    for (const [i, angles] of this.#angles.entries()) {
      if (highest < angles.positions) continue;
      growAngles(angles, highest + 1);
      const { cosines, sines } = angles;
      const both = new Float32Array(2 * cosines.length);
      for (let n = 0; n < cosines.length; n++) both.set([cosines[n], sines[n]], 2 * n);
      this.#gpu.device.queue.writeBuffer(this.#make(`angles${i}`, both.byteLength), 0, both);
      changed = true;
    }
    return changed;
  }

  /** Says everything of a step of one row but its token, which another step leaves there. */
  writeRest(batch: Batch): void {
    const words = batchWords(batch);
    this.#gpu.device.queue.writeBuffer(this.#buffers.get("batch")!, 4, words, 1);
  }

  #write(batch: Batch): boolean {
    const words = batchWords(batch);
    const fits = this.#hasBatch(words.length);
    const buffer = fits ? this.#buffers.get("batch")! : this.#make("batch", 2 * words.byteLength);
    this.#gpu.device.queue.writeBuffer(buffer, 0, words);
    return !fits;
  }
}

/** The arrays of gpu/op.wgsl: tokens, positions, call lengths, tables by row, outputs; then the tables. */
function batchWords(batch: Batch): Uint32Array<ArrayBuffer> {
  const { tokens, positions, sequences, blockTables, outputs } = batch;
  const rows = tokens.length;
  let at = 4 * rows + outputs.length;
  const starts = blockTables.map((table) => {
    at += table.length;
    return at - table.length;
  });
  const words = new Uint32Array(wordsOf(batch));
  words.set(tokens, 0);
  words.set(positions, rows);
  words.set(callLengthsOf(batch), 2 * rows);
  words.set(
    Uint32Array.from(sequences, (sequence) => starts[sequence]),
    3 * rows,
  );
  words.set(outputs, 4 * rows);
  for (const [i, table] of blockTables.entries()) words.set(table, starts[i]);
  return words;
}

const highestOf = (tables: readonly Int32Array[]): number =>
  tables.reduce((most, table) => table.reduce((m, block) => Math.max(m, block), most), -1);

/** Words of what a step says of its rows. */
const wordsOf = ({ tokens, outputs, blockTables }: Batch): number =>
  blockTables.reduce((sum, { length }) => sum + length, 4 * tokens.length + outputs.length);
