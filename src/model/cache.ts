/** Who owns which block of the key-value cache. Blocks hold CACHE_BLOCK positions; a sequence lists its blocks in order. */

import { CACHE_BLOCK } from "../backends/program.js";
import { IsqError } from "../errors.js";

/** The blocks of a session that no sequence owns. */
export interface BlockPool {
  readonly blocks: number;
  readonly freeBlocks: number;
  /** A free block, or -1 when there is none. */
  take(): number;
  give(block: number): void;
}

/** The cache of one sequence. */
export interface SequenceCache {
  /** Positions in use. */
  readonly length: number;
  /** Cache block of each CACHE_BLOCK positions, as {@link Batch.blockTables} wants it. */
  readonly table: Int32Array;
  /** Adds positions at the end. Throws `prompt/length`, without any change, when context or cache have no room. */
  extend(positions: number): void;
  /** Gives all blocks back; the length becomes 0. */
  release(): void;
}

/** A pool of blocks for `positions` positions. The lowest free block is taken first. */
export function createBlockPool(positions: number): BlockPool {
  const blocks = Math.ceil(positions / CACHE_BLOCK);
  const returned: number[] = [];
  let untouched = 0;
  return {
    blocks,
    get freeBlocks() {
      return blocks - untouched + returned.length;
    },
    take() {
      if (returned.length > 0) return returned.pop()!;
      return untouched < blocks ? untouched++ : -1;
    },
    give(block) {
      returned.push(block);
    },
  };
}

/** An empty sequence over the pool, of at most `contextLength` positions. */
export function createSequence(pool: BlockPool, contextLength: number): SequenceCache {
  let length = 0;
  let table = new Int32Array(0);
  return {
    get length() {
      return length;
    },
    get table() {
      return table;
    },
    extend(positions) {
      const wanted = length + positions;
      const missing = Math.ceil(wanted / CACHE_BLOCK) - table.length;
      const room = Math.min(contextLength, (table.length + pool.freeBlocks) * CACHE_BLOCK);
      if (wanted > room) throw lengthError(wanted, contextLength, room);
      if (missing > 0)
        table = Int32Array.from([...table, ...Array.from({ length: missing }, () => pool.take())]);
      length = wanted;
    },
    release() {
      for (const block of table) pool.give(block);
      table = new Int32Array(0);
      length = 0;
    },
  };
}

/** The `prompt/length` error of a sequence of `wanted` positions where `room` are possible. */
export function lengthError(wanted: number, contextLength: number, room: number): IsqError {
  const what = wanted > contextLength ? "the model's context" : "what is free of the cache";
  return new IsqError("prompt/length", `${wanted} tokens do not fit ${what} of ${room} positions`, {
    field: "tokens",
    value: wanted,
    limit: room,
    contextLength,
  });
}
