import { describe, expect, test } from "vitest";
import { CACHE_BLOCK } from "../../src/backends/program.js";
import { isIsqError } from "../../src/errors.js";
import { createBlockPool, createSequence } from "../../src/model/cache.js";

describe("cache blocks", () => {
  test("are shared by sequences and given back", () => {
    const pool = createBlockPool(4 * CACHE_BLOCK);
    const a = createSequence(pool, { contextLength: 1000 });
    const b = createSequence(pool, { contextLength: 1000 });
    a.extend(1);
    b.extend(CACHE_BLOCK + 1);
    a.extend(CACHE_BLOCK - 1);
    expect(a.table).toHaveLength(1);
    a.extend(1);
    expect(new Set([...a.table, ...b.table]).size).toBe(4);
    expect(pool.freeBlocks).toBe(0);
    expect(() => a.extend(CACHE_BLOCK)).toThrowError();
    expect(a.length).toBe(CACHE_BLOCK + 1);
    b.release();
    expect(pool.freeBlocks).toBe(2);
    a.extend(CACHE_BLOCK);
    expect(new Set(a.table).size).toBe(3);
  });

  test("are reserved for what may follow soon, unless they are scarce, and not beyond the context", () => {
    const pool = createBlockPool(4 * CACHE_BLOCK);
    const text = createSequence(pool, { contextLength: 3 * CACHE_BLOCK, reuse: true });
    text.extend(CACHE_BLOCK - 2);
    text.reserve(2, 1);
    expect(text.table).toHaveLength(1);
    text.reserve(3, 4);
    expect(text.table).toHaveLength(1); // three are free, and four are to be left
    text.reserve(3, 2);
    expect([text.table.length, text.length]).toEqual([2, CACHE_BLOCK - 2]);
    text.extend(2);
    expect(text.adopt(new Array(2 * CACHE_BLOCK).fill(1), 2 * CACHE_BLOCK)).toBe(0); // the place after it is taken
    text.extend(2 * CACHE_BLOCK);
    text.reserve(5, 0);
    expect([text.table.length, pool.freeBlocks]).toEqual([3, 1]);
    text.release();
    expect(pool.freeBlocks).toBe(4);
  });

  test("refuse what does not fit, naming the limit, and change nothing", () => {
    const pool = createBlockPool(2 * CACHE_BLOCK);
    const short = createSequence(pool, { contextLength: 10 });
    const long = createSequence(pool, { contextLength: 1000 });
    for (const [sequence, limit, tag] of [
      [short, 10, "prompt/length"],
      [long, 2 * CACHE_BLOCK, "cache/full"],
    ] as const) {
      try {
        sequence.extend(limit + 1);
        expect.unreachable();
      } catch (error) {
        expect(isIsqError(error, tag) && error.details).toMatchObject({
          value: limit + 1,
          limit,
        });
      }
      expect(sequence.length).toBe(0);
      expect(pool.freeBlocks).toBe(2);
    }
  });
});
