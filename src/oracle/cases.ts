/** The cases of a stream of vectors: case i depends on the spec's type, seed and i alone. */

import { f32 } from "../numerics.js";
import { dequantize, type IsqType, quantize, TYPES } from "../quants/index.js";
import { bytesOf, join } from "./packed.js";
import { type Random, randomFrom } from "./random.js";
import { fillRow, IMPORTANCE_KIND_NAMES, makeImportance, nudge, ROW_KINDS, type RowKind } from "./rows.js";
import { packedByteLength, type VectorSpec } from "./spec.js";
import { isUndefined } from "./undefined.js";

/** One question. `parts` are the input's bytes by name, in the order of the streams. */
export interface VectorCase {
  readonly index: number;
  /** What is hard about it: the name of the recipe. */
  readonly kind: string;
  readonly parts: Readonly<Record<string, Uint8Array>>;
  readonly values?: Float32Array;
  readonly importance?: Float32Array;
}

/** Kinds that sit on boundaries come so much more often than the others; of `scaleTies` few rows hit. */
const WEIGHTS: Partial<Record<RowKind, number>> = {
  ties: 4,
  nearTies: 4,
  scaleTies: 12,
  equalMaxima: 4,
  constantRuns: 3,
  subnormalHalf: 4,
  halfOverflow: 4,
  grid: 3,
};
const WEIGHTED: readonly RowKind[] = ROW_KINDS.flatMap((kind) =>
  Array<RowKind>(WEIGHTS[kind] ?? 1).fill(kind),
);
/** Share of cases whose blocks are of different kinds. */
const MIXED_SHARE = 0.2;

/** Share of encoder cases whose values are moved to where one code ends and the next begins. */
const PUSHED_SHARE = 0.3;

/** A stream of its own for every case, so that any case can be made again alone. */
function randomOf(spec: VectorSpec, index: number): Random {
  return randomFrom(randomFrom(spec.seed ^ Math.imul(index + 1, 0x85ebca6b)).word());
}

/** Case `index` of a spec: its inputs, which depend on the seed and the index alone. */
export function makeCase(spec: VectorSpec, index: number): VectorCase {
  const random = randomOf(spec, index);
  if (spec.operation === "encode") return encodeCase(spec, index, random);
  const { kind, bytes } = packedBytes(random, spec.type, spec.columns);
  if (spec.operation === "decode") return { index, kind, parts: { data: bytes } };
  const activations = activationBytes(random, TYPES[spec.type].dotPartner as IsqType, spec.columns);
  return { index, kind, parts: { weights: bytes, activations } };
}

function encodeCase(spec: VectorSpec, index: number, random: Random): VectorCase {
  const { kind: rowKind, values } = hardRow(random, spec.type, spec.columns);
  const pushed = TYPES[spec.type].family === "block" && random.unit() < PUSHED_SHARE;
  if (pushed) pushToBoundaries(random, spec, values);
  if (spec.algorithm === "ggml" && !spec.importance) clearUndefined(spec.type, values);
  const kind = pushed ? `${rowKind}, pushed` : rowKind;
  if (!spec.importance) return { index, kind, values, parts: { values: bytesOf(values) } };
  const recipe = { kind: random.pick(IMPORTANCE_KIND_NAMES), seed: random.word() };
  const importance = makeImportance(recipe, spec.columns);
  return {
    index,
    kind: `${kind}, importance ${recipe.kind}`,
    values,
    importance,
    parts: { values: bytesOf(values), importance: bytesOf(importance) },
  };
}

/**
 * Moves two values of every run of 16 to the middle between two levels that the encoder chose, or a neighbour of it. If
 * the same levels are chosen again, whether a quotient is rounded once or twice decides on the codes.
 */
function pushToBoundaries(random: Random, spec: VectorSpec, values: Float32Array): void {
  const shape = [spec.columns];
  const levels = dequantize(quantize(spec.type, values, { shape, algorithm: spec.algorithm }));
  for (let from = 0; from < values.length; from += 16) {
    const step = smallestStep(levels.subarray(from, from + 16));
    for (let n = 0; n < 2; n++) {
      const i = from + random.integer(0, 15);
      const middle = f32(levels[i] + (values[i] < levels[i] ? -step / 2 : step / 2));
      const far = Math.abs(values[i] - middle) > step; // a value that was clamped
      if (Number.isFinite(middle) && !far) values[i] = nudge(middle, random.integer(-1, 1));
    }
  }
}

/** The smallest distance between two different values; 0 when there is none. */
function smallestStep(levels: Float32Array): number {
  const sorted = [...levels].sort((a, b) => a - b);
  let step = Number.POSITIVE_INFINITY;
  for (let i = 1; i < sorted.length; i++) {
    const gap = sorted[i] - sorted[i - 1];
    if (gap > 0 && gap < step) step = gap;
  }
  return Number.isFinite(step) ? step : 0;
}

/** A row of blocks of one kind, or of several. */
function hardRow(random: Random, type: IsqType, columns: number): { kind: string; values: Float32Array } {
  const values = new Float32Array(columns);
  const { blockElements, family } = TYPES[type];
  const mixed = random.unit() < MIXED_SHARE;
  const kind = random.pick(WEIGHTED);
  const recipes = Array.from({ length: columns / (family === "tensor" ? columns : blockElements) }, () => ({
    kind: mixed ? random.pick(WEIGHTED) : kind,
    exponent: family === "block" ? blockExponent(random) : random.integer(-10, 3),
    seed: random.word(),
  }));
  fillRow(recipes, values);
  return { kind: mixed ? "mixed" : kind, values };
}

/** Mostly the size of weights; sometimes where squares vanish or overflow; seldom the ends of binary32. */
function blockExponent(random: Random): number {
  const where = random.unit();
  if (where < 0.75) return random.integer(-10, 3);
  return where < 0.93 ? random.integer(-45, 40) : random.integer(-149, 126);
}

/** Blocks on which C leaves the result open become zeros. */
function clearUndefined(type: IsqType, values: Float32Array): void {
  const { blockElements } = TYPES[type];
  for (let at = 0; at < values.length; at += blockElements) {
    const block = values.subarray(at, at + blockElements);
    if (isUndefined(type, block)) block.fill(0);
  }
}

/** binary16 scales for blocks that are decoded: ordinary, subnormal, zeros of both signs, the largest, infinite, NaN. */
const HALVES = [
  0x2c00, 0xac66, 0x0001, 0x8001, 0x03ff, 0x0400, 0x0000, 0x8000, 0x7bff, 0xfbff, 0x7c00, 0x7e00,
];
const FLOATS = [0.03125, -0.07, 2 ** -149, 2 ** -126, 0, -0, 3.4028234663852886e38, -1e38, 1e-30];

const PACKED_KINDS = [
  "random bytes",
  "ordinary scales",
  "scales at the edges",
  "lowest codes",
  "highest codes",
] as const;

/** Bytes of a tensor that no encoder needs to have made: every pattern of codes and scales has a meaning. */
function packedBytes(random: Random, type: IsqType, columns: number): { kind: string; bytes: Uint8Array } {
  const kind = random.pick(PACKED_KINDS);
  const bytes = Uint8Array.from({ length: packedByteLength(type, columns) }, () => random.word() >>> 24);
  if (kind === "lowest codes") bytes.fill(0);
  if (kind === "highest codes") bytes.fill(0xff);
  if (kind !== "random bytes") setScales(random, type, columns, bytes, kind === "scales at the edges");
  return { kind, bytes };
}

function setScales(random: Random, type: IsqType, columns: number, bytes: Uint8Array, edges: boolean): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { family, blockBytes, blockElements, fields } = TYPES[type];
  const half = () => (edges ? random.pick(HALVES) : (random.word() & 0x8fff) | 0x2000);
  const float = () => (edges ? random.pick(FLOATS) : (random.unit() - 0.5) / 8);
  if (family !== "block") {
    const sides = family === "group" ? (2 * columns) / blockElements : 2;
    for (let i = 1; i <= sides; i++) view.setFloat32(bytes.length - 4 * i, float(), true);
    return;
  }
  for (let block = 0; block < bytes.length; block += blockBytes) {
    for (const { kind, offset } of fields) {
      if (kind === "f16") view.setUint16(block + offset, half(), true);
      if (kind === "f32") view.setFloat32(block + offset, float(), true);
    }
  }
}

/** Activations are what the reference makes of a hard row: their sums belong to their codes. */
function activationBytes(random: Random, partner: IsqType, columns: number): Uint8Array {
  const { values } = hardRow(random, partner, columns);
  clearUndefined(partner, values);
  return quantize(partner, values, { shape: [columns], algorithm: "ggml" }).data;
}

/** The input's bytes in one piece. */
export function inputBytes({ parts }: VectorCase): Uint8Array {
  return join(Object.values(parts));
}
