/**
 * Encoding with the kernels, by a team: block types tile by tile, HQQ in groups with a vote after every round, FP8 after
 * the peak of the whole tensor is known. The bytes do not depend on the team's size.
 */

import type { IsqError } from "../errors.js";
import { TYPES } from "../quants/table.js";
import { nonFiniteError } from "../quants/tensor.js";
import {
  type EncodeJob,
  type EncodeOutput,
  type EncodeResult,
  lower,
  NOT_BAD,
  type ValueReader,
} from "./encode-job.js";
import type { Team } from "./team.js";
import type { Bank } from "./wasm-bank.js";
import { encodeGroups } from "./wasm-encode-groups.js";

const f32 = Math.fround;

/** Elements encoded at a time: their values and codes stay in the second-level cache. */
const TILE = 65536;

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
