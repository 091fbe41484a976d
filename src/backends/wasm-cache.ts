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
    const [keys, values] = [op.headWidth, op.valueWidth].map(
      (width) => [first * width, last * width] as const,
    );
    const keyWidth = keys[1] - keys[0];
    const valueWidth = values[1] - values[0];
    const blocks = this.#blocks[op.layer];
    for (let row = 0; row < batch.tokens.length; row++) {
      const position = batch.positions[row];
      const block = batch.blockTables[batch.sequences[row]][Math.floor(position / CACHE_BLOCK)];
      blocks[block] ||= bank.allocate(4 * CACHE_BLOCK * (keyWidth + valueWidth));
      const place = position % CACHE_BLOCK;
      this.#slots.load(op.k, keys, row, 1, bank, blocks[block] + 4 * place * keyWidth);
      const at = blocks[block] + 4 * (CACHE_BLOCK * keyWidth + place * valueWidth);
      this.#slots.load(op.v, values, row, 1, bank, at);
    }
  }

  #mix(op: OpOf<"attention">, batch: Batch, [first, last]: readonly [number, number]): void {
    const bank = this.#bank;
    const group = op.heads / op.kvHeads;
    const { headWidth, valueWidth } = op;
    const heads = (last - first) * group;
    const keyStride = 4 * (last - first) * headWidth;
    const valueStride = 4 * (last - first) * valueWidth;
    const columns = [first * group * headWidth, last * group * headWidth] as const;
    const longest = batch.positions.reduce((most, position) => Math.max(most, position), 0) + 1;
    const blockCount = Math.ceil(longest / CACHE_BLOCK);
    const [q, table, scores, out] = bank.scratch(
      4 * heads * headWidth,
      4 * blockCount,
      4 * longest,
      4 * heads * valueWidth,
    );
    let sequence = -1;
    for (let row = 0; row < batch.tokens.length; row++) {
      if (batch.sequences[row] !== sequence) {
        sequence = batch.sequences[row];
        this.#fillTable(op.layer, batch.blockTables[sequence], table, blockCount);
      }
      const position = batch.positions[row];
      const start = op.window === null ? 0 : Math.max(0, position - op.window + 1);
      this.#slots.load(op.q, columns, row, 1, bank, q);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor(head / group);
        bank.call(
          "attend",
          q + 4 * head * headWidth,
          table,
          start,
          position - start + 1,
          keyStride,
          4 * kvHead * headWidth,
          headWidth,
          valueStride,
          CACHE_BLOCK * keyStride + 4 * kvHead * valueWidth,
          valueWidth,
          op.scale,
          op.softcap ?? 0,
          scores,
          out + 4 * head * valueWidth,
        );
      }
      this.#slots.store(op.out, row, 1, bank, out, heads * valueWidth);
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
