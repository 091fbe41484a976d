/**
 * Encoding with the kernels, by a team: block types tile by tile, HQQ in groups with a vote after every round, FP8 after
 * the peak of the whole tensor is known. The bytes do not depend on the team's size.
 */

import type { IsqError } from "../errors.js";
import { type Algorithm, type IsqType, TYPES } from "../quants/table.js";
import { nonFiniteError } from "../quants/tensor.js";
import { shareOf, type Team } from "./team.js";
import type { Bank } from "./wasm-bank.js";

const f32 = Math.fround;

/** Elements encoded at a time: their values and codes stay in the second-level cache. */
const TILE = 65536;

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

const NOT_BAD = 0x7fffffff;

export function newBadTile(words: Int32Array): Int32Array {
  words[0] = NOT_BAD;
  return words;
}

/** Floats that {@link EncodeOutput.votes} needs. */
export function voteCount({ type, count }: Pick<EncodeJob, "type" | "count">, members: number): number {
  const { family, blockElements } = TYPES[type];
  return family === "group" ? 2 * (count / blockElements) : family === "tensor" ? members : 0;
}

export function encode(
  bank: Bank,
  job: EncodeJob,
  reader: ValueReader,
  out: EncodeOutput,
  team: Team,
): EncodeResult {
  const { family } = TYPES[job.type];
  if (family === "group") return encodeGroups(bank, job, reader, out, team);
  if (family === "tensor") return encodeTensor(bank, job, reader, out, team);
  const write = (bytes: Uint8Array, offset: number) => out.data.set(bytes, offset);
  return encodeBlocks(bank, job, reader, write, { first: 0, last: job.count }, out.bad, team);
}

/**
 * Encodes the elements from `first` to `last` (whole rows, or whole blocks when there is no importance). `write` gets
 * bytes and their offset from the start of `first`.
 */
export function encodeBlocks(
  bank: Bank,
  job: EncodeJob,
  reader: ValueReader,
  write: (bytes: Uint8Array, offset: number) => void,
  { first, last }: { first: number; last: number },
  bad: Int32Array,
  team: Team,
): EncodeResult {
  const { stem, blockElements, blockBytes } = TYPES[job.type];
  const { width, importance } = job;
  // The searches with importance look at whole rows; without it a row is nothing but blocks.
  const tile = importance ? width * Math.max(1, Math.floor(TILE / width)) : TILE;
  const bytesOf = (elements: number) => (elements / blockElements) * blockBytes;
  const most = Math.min(tile, last - first);
  const [src, dst, weights] = bank.scratch(4 * most, bytesOf(most), importance ? 4 * width : 0);
  if (importance) bank.floats.set(importance, weights / 4);
  let reencodedBlocks = 0;
  for (let n = team.claim(); first + n * tile < last && n <= Atomics.load(bad, 0); n = team.claim()) {
    team.check();
    const start = first + n * tile;
    const count = Math.min(tile, last - start);
    reader.read(bank, start, count, src);
    const nonFinite = bank.call("first_non_finite", src, count);
    if (nonFinite >= 0) {
      lower(bad, n);
      return {
        nonFinite: start + nonFinite,
        nonFiniteValue: bank.floats[src / 4 + nonFinite],
        reencodedBlocks,
      };
    }
    const [rows, columns] = importance ? [count / width, width] : [1, count];
    const name = `${stem}_quantize_${job.algorithm}`;
    reencodedBlocks += bank.call(name, src, importance ? weights : 0, dst, rows, columns);
    write(bank.bytes.subarray(dst, dst + bytesOf(count)), bytesOf(start - first));
  }
  return { nonFinite: -1, reencodedBlocks };
}

/** Sets the word to `value` unless it is lower already. */
function lower(word: Int32Array, value: number): void {
  for (let seen = Atomics.load(word, 0); value < seen; ) {
    const before = Atomics.compareExchange(word, 0, seen, value);
    if (before === seen) return;
    seen = before;
  }
}

const ROUNDS = 10;
const GROUP = 64;

/** HQQ: the stop test looks at the whole tensor, so every member keeps its groups' values for all rounds. */
function encodeGroups(
  bank: Bank,
  job: EncodeJob,
  reader: ValueReader,
  out: EncodeOutput,
  team: Team,
): EncodeResult {
  const bits = job.type === "HQQ4" ? 4 : 8;
  const largest = 2 ** bits - 1;
  const groups = job.count / GROUP;
  const [first, last] = shareOf(groups, 4, team.part);
  const own = last - first;
  const contiguous = job.algorithm === "hqq";
  const [groupStride, memberStride] = contiguous ? [GROUP, 1] : [1, own];
  const members = bits === 8 ? GROUP : GROUP / 2;
  const areas = [4 * GROUP * own, 4 * own, 4 * own, 4 * own, members * own];
  const addresses = areas.map((byteLength) => bank.allocate(byteLength));
  const [src, s, z, errors, data] = addresses;
  try {
    readGroups(bank, reader, src, first, own, contiguous ? null : groups);
    const found = bank.call("first_non_finite", src, GROUP * own);
    if (found >= 0) lower(out.bad, 0);
    team.barrier();
    if (Atomics.load(out.bad, 0) !== NOT_BAD) {
      return { ...firstBad(bank, src, first, own, contiguous ? null : groups), reencodedBlocks: 0 };
    }
    bank.call("hqq_begin", src, s, z, own, groupStride, memberStride, largest);
    let beta = 10;
    let best = 10000;
    for (let round = 0; round < ROUNDS; round++, beta *= 1.01) {
      bank.call("hqq_round", src, s, z, errors, own, groupStride, memberStride, largest, f32(1 / beta));
      // Two halves by turns: a slow member may still add up one while a fast one fills the other.
      const votes = out.votes!.subarray((round & 1) * groups, ((round & 1) + 1) * groups);
      votes.set(bank.floats.subarray(errors / 4, errors / 4 + own), first);
      team.barrier();
      let total = 0;
      for (let j = 0; j < groups; j++) total += votes[j];
      const error = f32(total / job.count);
      if (!(error < best)) break; // the zeros of this last round are kept
      best = error;
    }
    bank.call("hqq_finish", src, s, z, data, own, own, groupStride, memberStride, bits);
    for (let r = 0; r < members; r++) {
      out.data.set(bank.bytes.subarray(data + r * own, data + (r + 1) * own), r * groups + first);
    }
    out.scales!.set(bank.floats.subarray(s / 4, s / 4 + own), first);
    out.zeros!.set(bank.floats.subarray(z / 4, z / 4 + own), first);
    return { nonFinite: -1, reencodedBlocks: 0 };
  } finally {
    for (const address of addresses) bank.free(address);
  }
}

/** Values of `own` groups from `first` on; `stride` is the number of all groups, or null for consecutive members. */
function readGroups(
  bank: Bank,
  reader: ValueReader,
  src: number,
  first: number,
  own: number,
  stride: number | null,
): void {
  if (own === 0) return;
  if (stride === null) {
    reader.read(bank, first * GROUP, own * GROUP, src);
    return;
  }
  for (let r = 0; r < GROUP; r++) reader.read(bank, r * stride + first, own, src + 4 * r * own);
}

/** The first non-finite value among this member's groups. */
function firstBad(bank: Bank, src: number, first: number, own: number, stride: number | null) {
  const at = bank.call("first_non_finite", src, GROUP * own);
  if (at < 0) return { nonFinite: -1 };
  const element = stride === null ? first * GROUP + at : Math.floor(at / own) * stride + first + (at % own);
  return { nonFinite: element, nonFiniteValue: bank.floats[src / 4 + at] };
}

/** FP8: one scale for the tensor, so its values are read twice. */
function encodeTensor(
  bank: Bank,
  job: EncodeJob,
  reader: ValueReader,
  out: EncodeOutput,
  team: Team,
): EncodeResult {
  const [src, dst] = bank.scratch(4 * TILE, TILE);
  const tiles = Math.ceil(job.count / TILE);
  const countOf = (n: number) => Math.min(TILE, job.count - n * TILE);
  let peak = 0;
  let found: Pick<EncodeResult, "nonFinite" | "nonFiniteValue"> = { nonFinite: -1 };
  for (let n = team.claim(); n < tiles && n <= Atomics.load(out.bad, 0); n = team.claim()) {
    team.check();
    reader.read(bank, n * TILE, countOf(n), src);
    const at = bank.call("first_non_finite", src, countOf(n));
    if (at >= 0) {
      lower(out.bad, n);
      found = { nonFinite: n * TILE + at, nonFiniteValue: bank.floats[src / 4 + at] };
      break;
    }
    peak = Math.max(peak, bank.call("fp8_peak", src, countOf(n)));
  }
  out.votes![team.part.index] = peak;
  team.restart();
  if (Atomics.load(out.bad, 0) !== NOT_BAD) return { ...found, reencodedBlocks: 0 };
  const scale = bank.call(
    `fp8_scale_${job.algorithm}`,
    out.votes!.reduce((a, b) => Math.max(a, b), 0),
  );
  for (let n = team.claim(); n < tiles; n = team.claim()) {
    reader.read(bank, n * TILE, countOf(n), src);
    bank.call(`fp8_encode_${job.algorithm}`, src, dst, countOf(n), scale);
    out.data.set(bank.bytes.subarray(dst, dst + countOf(n)), n * TILE);
  }
  const inverse = f32(1 / scale);
  const [quantizeScale, dequantizeScale] = job.algorithm === "ocp" ? [inverse, scale] : [scale, inverse];
  return { nonFinite: -1, reencodedBlocks: 0, quantizeScale, dequantizeScale };
}

/** Reads from an array. */
export function arrayReader(values: Float32Array): ValueReader {
  return {
    read: (bank, first, count, address) =>
      bank.floats.set(values.subarray(first, first + count), address / 4),
  };
}

/** The refusal that a team's results ask for, or null. */
export function refusalOf(results: readonly (EncodeResult | null)[], name?: string): IsqError | null {
  let first: EncodeResult | null = null;
  for (const result of results) {
    if (result && result.nonFinite >= 0 && !(first && first.nonFinite < result.nonFinite)) first = result;
  }
  return first && nonFiniteError(first.nonFiniteValue ?? Number.NaN, first.nonFinite, name);
}
