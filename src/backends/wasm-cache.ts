/** Keys and values of a member's heads: blocks in its WebAssembly memory, made when first written. */

import type { OpOf, Part } from "./interpreter.js";
import { type Batch, CACHE_BLOCK, type Program } from "./program.js";
import { shareOf } from "./team.js";
import type { Bank } from "./wasm-bank.js";
import type { Slots } from "./wasm-slots.js";

export class Cache {
  readonly #bank: Bank;
  readonly #slots: Slots;
  readonly #part: Part;
  /** Address of each block by layer, 0 before it is written. */
  readonly #blocks: number[][];

  constructor(program: Program, part: Part, bank: Bank, slots: Slots) {
    this.#bank = bank;
    this.#slots = slots;
    this.#part = part;
    this.#blocks = Array.from({ length: program.cacheLayers }, () => []);
  }

  /** Stores the batch's keys and values of this member's heads and attends with the query heads that read them. */
  attend(op: OpOf<"attention">, batch: Batch): void {
    const heads = shareOf(op.kvHeads, 1, this.#part);
    if (heads[0] === heads[1]) return;
    this.#store(op, batch, heads);
    this.#mix(op, batch, heads);
  }

  #store(op: OpOf<"attention">, batch: Batch, [first, last]: readonly [number, number]): void {
    const bank = this.#bank;
    const width = (last - first) * op.headWidth;
    const blocks = this.#blocks[op.layer];
    const columns = [first * op.headWidth, last * op.headWidth] as const;
    for (let row = 0; row < batch.tokens.length; row++) {
      const position = batch.positions[row];
      const block = batch.blockTables[batch.sequences[row]][Math.floor(position / CACHE_BLOCK)];
      blocks[block] ||= bank.allocate(8 * CACHE_BLOCK * width);
      const at = blocks[block] + 4 * (position % CACHE_BLOCK) * width;
      this.#slots.load(op.k, columns, row, 1, bank, at);
      this.#slots.load(op.v, columns, row, 1, bank, at + 4 * CACHE_BLOCK * width);
    }
  }

  #mix(op: OpOf<"attention">, batch: Batch, [first, last]: readonly [number, number]): void {
    const bank = this.#bank;
    const group = op.heads / op.kvHeads;
    const headBytes = 4 * op.headWidth;
    const stride = (last - first) * headBytes;
    const columns = [first * group * op.headWidth, last * group * op.headWidth] as const;
    const width = columns[1] - columns[0];
    const longest = batch.positions.reduce((most, position) => Math.max(most, position), 0) + 1;
    const blockCount = Math.ceil(longest / CACHE_BLOCK);
    const [q, table, scores, out] = bank.scratch(4 * width, 4 * blockCount, 4 * longest, 4 * width);
    let sequence = -1;
    for (let row = 0; row < batch.tokens.length; row++) {
      if (batch.sequences[row] !== sequence) {
        sequence = batch.sequences[row];
        this.#fillTable(op.layer, batch.blockTables[sequence], table, blockCount);
      }
      const position = batch.positions[row];
      const start = op.window === null ? 0 : Math.max(0, position - op.window + 1);
      this.#slots.load(op.q, columns, row, 1, bank, q);
      for (let head = 0; head < width / op.headWidth; head++) {
        const key = Math.floor(head / group) * headBytes;
        bank.call(
          "attend",
          q + head * headBytes,
          table,
          start,
          position - start + 1,
          stride,
          key,
          CACHE_BLOCK * stride + key,
          op.headWidth,
          op.scale,
          scores,
          out + head * headBytes,
        );
      }
      this.#slots.store(op.out, row, 1, bank, out, width);
    }
  }

  #fillTable(layer: number, blockTable: Int32Array, table: number, count: number): void {
    const { words } = this.#bank;
    const blocks = this.#blocks[layer];
    for (let i = 0; i < Math.min(count, blockTable.length); i++) {
      words[table / 4 + i] = blocks[blockTable[i]] ?? 0;
    }
  }

  dispose(): void {
    for (const blocks of this.#blocks) {
      for (const address of blocks) if (address) this.#bank.free(address);
      blocks.length = 0;
    }
  }
}
