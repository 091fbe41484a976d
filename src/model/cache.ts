/**
 * Who holds which block of the key-value cache. A block has CACHE_BLOCK positions; a sequence lists its blocks in order.
 * Full blocks may be published under the tokens they hold and those before: a sequence that starts with the same tokens
 * shares them, because keys and values depend on nothing else but, in some models, on the length of the prompt ({@link
 * SequenceOptions.root}).
 */

import { CACHE_BLOCK } from "../backends/program.js";
import { IsqError } from "../errors.js";

/** Names a published block and thereby all tokens up to its end; null names the empty text. */
export type Link = number | null;

export interface BlockPool {
  readonly blocks: number;
  /** Blocks that {@link take} can give: free ones, and published ones that no sequence holds. */
  readonly freeBlocks: number;
  /** Changes when published blocks are forgotten. */
  readonly epoch: number;
  /** A block with one holder, or -1. Published blocks without a holder go last, the longest unused first. */
  take(): number;
  /** Ends one holder's use. A published block stays until its place is needed. */
  give(block: number): void;
  /** The published block of these CACHE_BLOCK tokens after `parent`, with one more holder. */
  find(
    parent: Link,
    tokens: readonly number[],
  ): { readonly block: number; readonly link: number } | undefined;
  /** Publishes a held block, unless its tokens are already; the link of whichever block is published. */
  publish(block: number, parent: Link, tokens: readonly number[]): number;
  /** Forgets what is published: weights have changed. Holders keep their blocks. */
  forget(): void;
}

/** The key of a block's content: exact, so that no two contents can meet. */
export function blockKey(parent: Link, tokens: readonly number[]): string {
  return `${parent}:${tokens.join()}`;
}

interface Published {
  readonly block: number;
  readonly link: number;
}

/** A pool of blocks for `positions` positions. */
export function createBlockPool(positions: number): BlockPool {
  const blocks = Math.ceil(positions / CACHE_BLOCK);
  const holders: number[] = [];
  const returned: number[] = [];
  const published = new Map<string, Published>();
  const keys: (string | undefined)[] = [];
  /** Published blocks that nobody holds, in the order in which they were given back. */
  const kept = new Set<number>();
  let untouched = 0;
  let links = 0;
  let epoch = 0;
  const evict = (): number => {
    const [block] = kept;
    if (block === undefined) return -1;
    kept.delete(block);
    published.delete(keys[block]!);
    keys[block] = undefined;
    return block;
  };
  return {
    blocks,
    get freeBlocks() {
      return blocks - untouched + returned.length + kept.size;
    },
    get epoch() {
      return epoch;
    },
    take() {
      const block = returned.pop() ?? (untouched < blocks ? untouched++ : evict());
      if (block >= 0) holders[block] = 1;
      return block;
    },
    give(block) {
      if (--holders[block] > 0) return;
      if (keys[block] === undefined) returned.push(block);
      else kept.add(block);
    },
    find(parent, tokens) {
      const found = published.get(blockKey(parent, tokens));
      if (!found) return undefined;
      if (holders[found.block]++ === 0) kept.delete(found.block);
      return found;
    },
    publish(block, parent, tokens) {
      const key = blockKey(parent, tokens);
      const known = published.get(key);
      if (known) return known.link;
      published.set(key, { block, link: links });
      keys[block] = key;
      return links++;
    },
    forget() {
      epoch++;
      published.clear();
      keys.length = 0;
      returned.push(...kept);
      kept.clear();
    },
  };
}

export interface SequenceOptions {
  /** Most positions. */
  readonly contextLength: number;
  /** Positions that any layer still looks at, the own one included; null: all. */
  readonly window?: number | null;
  /** Whether to publish full blocks and to share published ones. */
  readonly reuse?: boolean;
  /** What its first block follows: texts that start elsewhere share nothing. Null when absent. */
  readonly root?: Link;
}

/** The cache of one sequence. */
export interface SequenceCache {
  /** Positions in use. */
  readonly length: number;
  /** Cache block of each CACHE_BLOCK positions, as {@link Batch.blockTables} wants it; -1 where the window has passed. */
  readonly table: Int32Array;
  /** Blocks that {@link extend} would take from the pool. */
  missingBlocks(positions: number): number;
  /** Adds positions at the end. Throws `prompt/length` or `cache/full`, without any change, when there is no room. */
  extend(positions: number): void;
  /** Takes blocks for positions that may follow soon, if there are more free ones than `spare`. */
  reserve(positions: number, spare: number): void;
  /** Shares published blocks that hold the next tokens, up to index `limit`; how many positions that gave. */
  adopt(tokens: readonly number[], limit: number): number;
  /** The key under which the next block could be shared soon, when it ends before index `limit`. */
  nextKey(tokens: readonly number[], limit: number): string | null;
  /** To be called when the positions have been computed: publishes full blocks, gives back what the window has passed. */
  settle(tokens: readonly number[]): void;
  /** Gives all blocks back; the length becomes 0. */
  release(): void;
}

/** An empty sequence over the pool. */
export function createSequence(pool: BlockPool, options: SequenceOptions): SequenceCache {
  const { contextLength, window = null, reuse = false, root = null } = options;
  let length = 0;
  let table = new Int32Array(0);
  let passed = 0;
  /** Of each published block. */
  let chain: Link[] = [];
  let { epoch } = pool;
  const last = (): Link => chain.at(-1) ?? root;
  /** Tokens of the block after the published ones, when the sequence ends there and the block before `limit`. */
  const nextTokens = (tokens: readonly number[], limit: number): readonly number[] | null => {
    const start = chain.length * CACHE_BLOCK;
    const isEnd = start === length && table.length === chain.length;
    const fits = reuse && epoch === pool.epoch && isEnd && start + CACHE_BLOCK <= limit;
    return fits ? tokens.slice(start, start + CACHE_BLOCK) : null;
  };
  const missingBlocks = (positions: number) =>
    Math.max(0, Math.ceil((length + positions) / CACHE_BLOCK) - table.length);
  const takeBlocks = (count: number) => {
    if (count > 0) table = Int32Array.of(...table, ...Array.from({ length: count }, () => pool.take()));
  };
  return {
    get length() {
      return length;
    },
    get table() {
      return table;
    },
    missingBlocks,
    extend(positions) {
      const wanted = length + positions;
      const missing = missingBlocks(positions);
      if (wanted > contextLength) throw lengthError(wanted, contextLength, contextLength);
      if (missing > pool.freeBlocks) throw fullError(wanted, pool);
      takeBlocks(missing);
      length = wanted;
    },
    reserve(positions, spare) {
      const missing = missingBlocks(Math.min(positions, contextLength - length));
      if (missing + spare <= pool.freeBlocks) takeBlocks(missing);
    },
    adopt(tokens, limit) {
      const before = length;
      for (;;) {
        const next = nextTokens(tokens, limit);
        const found = next && pool.find(last(), next);
        if (!found) return length - before;
        table = Int32Array.of(...table, found.block);
        chain.push(found.link);
        length += CACHE_BLOCK;
      }
    },
    nextKey(tokens, limit) {
      const next = nextTokens(tokens, limit);
      return next && blockKey(last(), next);
    },
    settle(tokens) {
      while (reuse && epoch === pool.epoch && (chain.length + 1) * CACHE_BLOCK <= length) {
        const start = chain.length * CACHE_BLOCK;
        chain.push(pool.publish(table[chain.length], last(), tokens.slice(start, start + CACHE_BLOCK)));
      }
      if (window === null) return;
      for (; (passed + 1) * CACHE_BLOCK <= length - window + 1; passed++) {
        pool.give(table[passed]);
        table[passed] = -1;
      }
    },
    release() {
      // The end first: what follows a block is of no use without it.
      for (const block of table.slice(passed).reverse()) pool.give(block);
      table = new Int32Array(0);
      length = passed = 0;
      chain = [];
      ({ epoch } = pool);
    },
  };
}

/** The `prompt/length` error of a sequence of `wanted` positions where `room` are possible. */
export function lengthError(wanted: number, contextLength: number, room: number): IsqError {
  const what = wanted > contextLength ? "the model's context" : "the cache";
  return new IsqError("prompt/length", `${wanted} tokens do not fit ${what} of ${room} positions`, {
    field: "tokens",
    value: wanted,
    limit: room,
    contextLength,
  });
}

/** The `cache/full` error of a sequence that wants `wanted` positions. */
export function fullError(wanted: number, { blocks }: BlockPool): IsqError {
  const room = blocks * CACHE_BLOCK;
  const message = `the cache is full: it has ${room} positions, and a text of ${wanted} finds no free block; ask for fewer tokens or make the cache larger`;
  return new IsqError("cache/full", message, { field: "cache", value: wanted, limit: room });
}
