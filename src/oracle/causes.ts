/** Which known mistake makes exactly the bytes that a subject gave: every hypothesis is tried. */

import { type Algorithm, TYPES } from "../quants/table.js";
import { type CauseName, HYPOTHESES, STRICT } from "./arithmetic.js";
import { type Bits, type Layout, layoutOf, readBits, writeBits } from "./layout.js";
import { encodeRowBlock, type RowInput } from "./trace-row.js";

/** A known cause and how much of the difference it accounts for. */
export interface Cause {
  readonly cause: CauseName;
  readonly detail: string;
  /** Bytes of the block that the cause does not explain; 0: it fits. */
  readonly unexplainedBytes: number;
}

/** The row as the contract encodes it and as the subject did, canonical (NaN scales as one pattern). */
export interface RowAnswers {
  readonly expected: Uint8Array;
  readonly actual: Uint8Array;
}

/**
 * The causes that give the subject's block `b` to the byte; if none does, the one that comes nearest, provided that it
 * explains half of the differing bytes.
 */
export function findCauses(row: RowInput, answers: RowAnswers, b: number): Cause[] {
  const { blockBytes } = TYPES[row.type];
  const actual = answers.actual.subarray(b * blockBytes, (b + 1) * blockBytes);
  const expected = answers.expected.subarray(b * blockBytes, (b + 1) * blockBytes);
  const differing = differingBytes(expected, actual);
  const causes: Cause[] = [];
  for (const { cause, detail, block } of suspects(row, answers, b)) {
    const unexplainedBytes = differingBytes(block, actual);
    if (unexplainedBytes < differing) causes.push({ cause, detail, unexplainedBytes });
  }
  const fitting = causes.filter(({ unexplainedBytes }) => unexplainedBytes === 0);
  if (fitting.length > 0) return fitting;
  const [nearest] = causes.sort((p, q) => p.unexplainedBytes - q.unexplainedBytes);
  return nearest && nearest.unexplainedBytes <= differing / 2 ? [nearest] : [];
}

export function differingBytes(a: Uint8Array, b: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) count++;
  return count;
}

export interface Suspect {
  readonly cause: CauseName;
  readonly detail: string;
  readonly block: Uint8Array;
}

function* suspects(row: RowInput, { expected }: RowAnswers, b: number): Generator<Suspect> {
  const { blockBytes } = TYPES[row.type];
  for (const { cause, detail, arithmetic } of HYPOTHESES) {
    yield { cause, detail, block: encodeRowBlock(row, b, arithmetic) };
  }
  yield* otherEncoders(row, b);
  const block = expected.subarray(b * blockBytes, (b + 1) * blockBytes);
  yield* otherOrders(row, block);
  yield* otherStrides(row, expected, b);
}

function* otherEncoders(row: RowInput, b: number): Generator<Suspect> {
  const { algorithms, importance: taking } = TYPES[row.type];
  const of = (algorithm: Algorithm, importance: Float32Array | undefined) =>
    encodeRowBlock({ ...row, algorithm, importance }, b, STRICT);
  for (const algorithm of algorithms) {
    if (algorithm === row.algorithm) continue;
    const importance = taking.includes(algorithm) ? row.importance : undefined;
    yield { cause: "other lineage", detail: `as ${algorithm} encodes it`, block: of(algorithm, importance) };
  }
  if (row.importance) {
    yield { cause: "other importance", detail: "none was used", block: of(row.algorithm, undefined) };
  }
  if (taking.includes(row.algorithm)) {
    const ones = new Float32Array(row.values.length).fill(1);
    yield { cause: "other importance", detail: "all ones", block: of(row.algorithm, ones) };
  }
}

/** The right codes in other places: nibbles swapped, neighbours together, elements reversed, scales big-endian. */
export function* otherOrders({ type }: Pick<RowInput, "type">, block: Uint8Array): Generator<Suspect> {
  const layout = layoutOf(type) as Layout;
  const { fields } = TYPES[type];
  const wide = layout.codes[0][0].width === 8;
  if (!wide) {
    const swapped = block.slice();
    for (const { name, offset, byteLength } of fields) {
      if (name !== "qs" && name !== "ql") continue;
      for (let i = offset; i < offset + byteLength; i++) swapped[i] = (block[i] >> 4) | (block[i] << 4);
    }
    yield { cause: "wrong nibble order", detail: "low and high halves of bytes swapped", block: swapped };
    const interleaved = permuted(layout.codes, block, (i) => neighbours(layout, i));
    yield { cause: "wrong nibble order", detail: "neighbouring elements share a byte", block: interleaved };
  }
  const last = layout.codes.length - 1;
  yield {
    cause: "wrong nibble order",
    detail: "elements reversed",
    block: permuted(layout.codes, block, (i) => last - i),
  };
  const bigEndian = block.slice();
  for (const { kind, offset, byteLength } of fields) {
    if (["f16", "f32", "u32", "i16"].includes(kind))
      bigEndian.subarray(offset, offset + byteLength).reverse();
  }
  yield { cause: "wrong byte order", detail: "big-endian numbers", block: bigEndian };
}

/** The element that has element i's place where the elements of a byte follow each other. */
function neighbours(layout: Layout, i: number): number {
  const { byte, shift, width } = layout.codes[i][0];
  const first = layout.codes[0][0].byte;
  return ((byte - first) * (8 / width) + shift / width) % layout.codes.length;
}

function permuted(
  codes: readonly (readonly Bits[])[],
  block: Uint8Array,
  from: (i: number) => number,
): Uint8Array {
  const out = block.slice();
  codes.forEach((places, i) => {
    writeBits(out, places, readBits(block, codes[from(i)]));
  });
  return out;
}

/** Another block, a block read or written some places off. */
function* otherStrides(row: RowInput, expected: Uint8Array, b: number): Generator<Suspect> {
  const { blockBytes, blockElements } = TYPES[row.type];
  const cause = "wrong stride" as const;
  for (let other = 0; other * blockBytes < expected.length; other++) {
    if (other === b) continue;
    const block = expected.subarray(other * blockBytes, (other + 1) * blockBytes);
    yield { cause, detail: `block ${other} is here`, block };
  }
  for (const off of [-4, -2, -1, 1, 2, 4]) {
    const from = b * blockBytes + off;
    if (from < 0 || from + blockBytes > expected.length) continue;
    const block = expected.subarray(from, from + blockBytes);
    yield { cause, detail: `bytes are ${Math.abs(off)} ${off < 0 ? "late" : "early"}`, block };
  }
  for (const off of [-32, -16, -1, 1, 16, 32]) {
    const from = b * blockElements + off;
    if (from < 0 || from + blockElements > row.values.length) continue;
    const shifted = { ...row, values: row.values.subarray(from, from + blockElements) };
    const importance = row.importance?.subarray(from, from + blockElements);
    const detail = `values are read from element ${from} on`;
    yield { cause, detail, block: encodeRowBlock({ ...shifted, importance }, 0, STRICT) };
  }
}
