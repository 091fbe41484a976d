/** Where the bits of every number of a block lie: codes, sub-block scales and minima. Written from the formats, apart from the codecs. */

import { readHalf } from "../numerics.js";
import { type IsqType, TYPES } from "../quants/table.js";

/** `width` bits at `shift` of a byte, which are the bits from `to` on of a number. */
export interface Bits {
  readonly byte: number;
  readonly shift: number;
  readonly width: number;
  readonly to: number;
}

export interface Layout {
  /** Elements that share a sub-block scale; the block's elements where there are none. */
  readonly subElements: number;
  /** The bits of each element's code. */
  readonly codes: readonly (readonly Bits[])[];
  /** Subtracted from unsigned codes to give the multiplier; 0 for affine types. `signed`: two's complement bytes. */
  readonly codeBias: number | "signed";
  readonly scales: readonly (readonly Bits[])[];
  readonly scaleBias: number | "signed";
  readonly mins: readonly (readonly Bits[])[];
}

const bits = (byte: number, shift: number, width: number, to = 0): Bits => ({ byte, shift, width, to });
const each = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));

const offsetOf = (type: IsqType, name: string): number =>
  TYPES[type].fields.find((field) => field.name === name)?.offset as number;

const halves = (type: IsqType, fifth: boolean) => {
  const [qs, qh] = [offsetOf(type, "qs"), offsetOf(type, "qh")];
  return each(32, (i) => [
    bits(qs + (i & 15), i < 16 ? 0 : 4, 4),
    ...(fifth ? [bits(qh + (i >> 3), i & 7, 1, 4)] : []),
  ]);
};

const wholeBytes = (type: IsqType) =>
  each(TYPES[type].blockElements, (i) => [bits(offsetOf(type, "qs") + i, 0, 8)]);

/** 2 bits each, a byte holds elements that are 32 apart. */
const pairs = (qs: number) => (i: number) => bits(qs + 32 * (i >> 7) + (i & 31), 2 * ((i >> 5) & 3), 2);
/** 4 bits each, a byte holds two elements that are 32 apart. */
const planes = (qs: number) => (i: number) => bits(qs + 32 * (i >> 6) + (i & 31), i & 32 ? 4 : 0, 4);
/** One bit each, the byte of an element is its place among 32. */
const mask = (at: number, to: number) => (i: number) => bits(at + (i & 31), i >> 5, 1, to);

function sixBitPair(j: number, at: number, which: 0 | 1): Bits[] {
  const own = at + 4 * which;
  if (j < 4) return [bits(own + j, 0, 6)];
  return [bits(at + 4 + j, 4 * which, 4), bits(own + j - 4, 6, 2, 4)];
}

function q6Code(i: number): Bits[] {
  const [half, quarter, l] = [i >> 7, (i >> 5) & 3, i & 31];
  return [
    bits(64 * half + 32 * (quarter & 1) + l, quarter >> 1 ? 4 : 0, 4),
    bits(128 + 32 * half + l, 2 * quarter, 2, 4),
  ];
}

const plain = (codes: Bits[][], codeBias: number | "signed"): Layout => ({
  subElements: codes.length,
  codes,
  codeBias,
  scales: [],
  scaleBias: 0,
  mins: [],
});

function sixBitLayout(codes: Bits[][]): Layout {
  return {
    subElements: 32,
    codes,
    codeBias: 0,
    scales: each(8, (j) => sixBitPair(j, 4, 0)),
    scaleBias: 0,
    mins: each(8, (j) => sixBitPair(j, 4, 1)),
  };
}

const LAYOUTS: Partial<Record<IsqType, Layout>> = {
  Q4_0: plain(halves("Q4_0", false), 8),
  Q4_1: plain(halves("Q4_1", false), 0),
  Q5_0: plain(halves("Q5_0", true), 16),
  Q5_1: plain(halves("Q5_1", true), 0),
  Q8_0: plain(wholeBytes("Q8_0"), "signed"),
  Q8_1: plain(wholeBytes("Q8_1"), "signed"),
  Q8K: plain(wholeBytes("Q8K"), "signed"),
  Q2K: {
    subElements: 16,
    codes: each(256, (i) => [pairs(16)(i)]),
    codeBias: 0,
    scales: each(16, (j) => [bits(j, 0, 4)]),
    scaleBias: 0,
    mins: each(16, (j) => [bits(j, 4, 4)]),
  },
  Q3K: {
    subElements: 16,
    codes: each(256, (i) => [pairs(32)(i), mask(0, 2)(i)]),
    codeBias: 4,
    scales: each(16, (j) => [bits(96 + (j & 7), j < 8 ? 0 : 4, 4), bits(104 + (j & 3), 2 * (j >> 2), 2, 4)]),
    scaleBias: 32,
    mins: [],
  },
  Q4K: sixBitLayout(each(256, (i) => [planes(16)(i)])),
  Q5K: sixBitLayout(each(256, (i) => [planes(48)(i), mask(16, 4)(i)])),
  Q6K: {
    subElements: 16,
    codes: each(256, q6Code),
    codeBias: 32,
    scales: each(16, (j) => [bits(192 + j, 0, 8)]),
    scaleBias: "signed",
    mins: [],
  },
};

/** The layout of a block type; undefined for HQQ and FP8, whose unit is the tensor. */
export const layoutOf = (type: IsqType): Layout | undefined => LAYOUTS[type];

export function readBits(block: Uint8Array, places: readonly Bits[]): number {
  let value = 0;
  for (const { byte, shift, width, to } of places)
    value |= ((block[byte] >> shift) & ((1 << width) - 1)) << to;
  return value;
}

export function writeBits(block: Uint8Array, places: readonly Bits[], value: number): void {
  for (const { byte, shift, width, to } of places) {
    const ones = ((1 << width) - 1) << shift;
    block[byte] = (block[byte] & ~ones) | (((value >> to) << shift) & ones);
  }
}

/** One number of a block. `stored` is the unsigned bits, `value` what the decoder multiplies with. */
export interface BlockNumber {
  readonly stored: number;
  readonly value: number;
}

/** The numbers of one block, as its type has them. */
export interface BlockContent {
  /** d, dmin, m, s: as binary32. */
  readonly scales: Readonly<Record<string, number>>;
  readonly subScales: readonly BlockNumber[];
  readonly subMins: readonly BlockNumber[];
  readonly codes: readonly BlockNumber[];
}

const unbias = (stored: number, bias: number | "signed"): BlockNumber => ({
  stored,
  value: bias === "signed" ? (stored << 24) >> 24 : stored - bias,
});

/** Everything that a block says. */
export function readBlock(type: IsqType, block: Uint8Array): BlockContent {
  const layout = layoutOf(type) as Layout;
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const scales: Record<string, number> = {};
  for (const { name, kind, offset } of TYPES[type].fields) {
    if (kind === "f16") scales[name] = readHalf(block, offset);
    if (kind === "f32") scales[name] = view.getFloat32(offset, true);
  }
  return {
    scales,
    subScales: layout.scales.map((places) => unbias(readBits(block, places), layout.scaleBias)),
    subMins: layout.mins.map((places) => unbias(readBits(block, places), 0)),
    codes: layout.codes.map((places) => unbias(readBits(block, places), layout.codeBias)),
  };
}
