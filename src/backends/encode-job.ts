/** What members of a team are to encode, where it comes from and goes to, and what each of them found. */

import type { Algorithm, IsqType } from "../quants/table.js";
import type { Bank } from "./wasm-bank.js";

/** Something that puts values into a bank: from an array, or from a file. */
export interface ValueReader {
  /** Puts `count` binary32 values, from element `first` on, at `address`. */
  read(bank: Bank, first: number, count: number, address: number): void;
}

export interface EncodeJob {
  readonly type: IsqType;
  readonly algorithm: Algorithm;
  /** Elements of the whole tensor. */
  readonly count: number;
  /** Elements of a row. */
  readonly width: number;
  readonly importance?: Float32Array;
}

/** What one member found. The kernels are for finite numbers only: the first other one ends the work. */
export interface EncodeResult {
  /** Index of the first non-finite value it met, or -1; the tensor's first is the smallest of all members. */
  readonly nonFinite: number;
  readonly nonFiniteValue?: number;
  readonly reencodedBlocks: number;
  /** FP8. */
  readonly quantizeScale?: number;
  readonly dequantizeScale?: number;
}

/** Results in shared or plain memory. */
export interface EncodeOutput {
  readonly data: Uint8Array;
  /** HQQ: a float per group. */
  readonly scales?: Float32Array;
  readonly zeros?: Float32Array;
  /** HQQ: two floats per group. FP8: one per member. */
  readonly votes?: Float32Array;
  /** One word, -1 at the start: the first tile with a non-finite value. */
  readonly bad: Int32Array;
}

/** No tile is bad. */
export const NOT_BAD = 0x7fffffff;

export function newBadTile(words: Int32Array): Int32Array {
  words[0] = NOT_BAD;
  return words;
}

/** Sets the word to `value` unless it is lower already. */
export function lower(word: Int32Array, value: number): void {
  for (let seen = Atomics.load(word, 0); value < seen; ) {
    const before = Atomics.compareExchange(word, 0, seen, value);
    if (before === seen) return;
    seen = before;
  }
}
