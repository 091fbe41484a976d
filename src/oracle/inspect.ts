/** What a quantized tensor says about itself, without its source: scales that are no numbers, fields no encoder writes. */

import { floatFromHalf } from "../numerics.js";
import { type IsqType, type QuantizedTensor, TYPES } from "../quants/index.js";
import { type Layout, layoutOf, readBits } from "./layout.js";

/** Something that no encoder writes, with how often and where first. */
export interface Fault {
  readonly rule: string;
  readonly count: number;
  /** Index of the first block, or group. */
  readonly first: number;
}

/** What the bytes of a tensor tell without its source. */
export interface Inspection {
  /** Blocks (groups for HQQ, 1 for FP8). */
  readonly blocks: number;
  /** Blocks with an infinite or NaN scale. */
  readonly nonFinite: number;
  readonly firstNonFinite?: number;
  readonly impossible: readonly Fault[];
  /** How often each stored code occurs; the index is the unsigned code. */
  readonly codes: readonly number[];
  /** Codes that never occur, of the `codes.length` possible ones. */
  readonly unusedCodes: number;
}

/** Counts over all blocks of a tensor. */
export function inspectTensor(tensor: QuantizedTensor): Inspection {
  const { family } = TYPES[tensor.type];
  if (family === "block") return inspectBlocks(tensor);
  return family === "group" ? inspectGroups(tensor) : inspectFloats(tensor);
}

class FaultList {
  private readonly faults = new Map<string, { count: number; first: number }>();

  add(rule: string, block: number): void {
    const known = this.faults.get(rule);
    if (known) known.count++;
    else this.faults.set(rule, { count: 1, first: block });
  }

  list(): Fault[] {
    return [...this.faults].map(([rule, fault]) => ({ rule, ...fault }));
  }
}

function summary(
  blocks: number,
  nonFinite: readonly number[],
  faults: FaultList,
  codes: readonly number[],
): Inspection {
  return {
    blocks,
    nonFinite: nonFinite.length,
    ...(nonFinite.length > 0 && { firstNonFinite: nonFinite[0] }),
    impossible: faults.list(),
    codes,
    unusedCodes: codes.filter((count) => count === 0).length,
  };
}

function inspectBlocks({ type, data }: QuantizedTensor): Inspection {
  const { blockBytes } = TYPES[type];
  const layout = layoutOf(type) as Layout;
  const width = layout.codes[0].reduce((sum, bits) => sum + bits.width, 0);
  const codes = new Array<number>(2 ** width).fill(0);
  const faults = new FaultList();
  const nonFinite: number[] = [];
  const check = BLOCK_RULES[type];
  const blocks = data.length / blockBytes;
  for (let b = 0; b < blocks; b++) {
    const block = data.subarray(b * blockBytes, (b + 1) * blockBytes);
    const scales = scalesOf(type, block);
    if (Object.values(scales).some((scale) => !Number.isFinite(scale))) nonFinite.push(b);
    for (const places of layout.codes) codes[readBits(block, places)]++;
    for (const rule of check?.(scales, block, layout) ?? []) faults.add(rule, b);
  }
  return summary(blocks, nonFinite, faults, codes);
}

type Scales = Readonly<Record<string, number>>;

function scalesOf(type: IsqType, block: Uint8Array): Scales {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const scales: Record<string, number> = {};
  for (const { name, kind, offset } of TYPES[type].fields) {
    if (kind === "f16") scales[name] = floatFromHalf(view.getUint16(offset, true));
    if (kind === "f32") scales[name] = view.getFloat32(offset, true);
  }
  return scales;
}

/** Rules that hold for every encoder of either lineage, with importance or without. Each returns what is broken. */
type BlockRule = (scales: Scales, block: Uint8Array, layout: Layout) => string[];

const notNegative =
  (...names: string[]): BlockRule =>
  (scales) =>
    names.filter((name) => scales[name] < 0).map((name) => `${name} is negative`);

/** Codes from -127 to 127: the scale maps the largest magnitude there. */
const bytes: BlockRule = ({ d }, block, layout) => {
  const broken = d < 0 ? ["d is negative"] : [];
  if (Math.abs(d) >= 2 ** -14 && layout.codes.some((places) => readBits(block, places) === 128)) {
    broken.push("a code is -128");
  }
  return broken;
};

/** Eight bits with a sum beside them. */
const summed: BlockRule = (scales, block, layout) => {
  const broken = bytes(scales, block, layout);
  const sum = layout.codes.reduce((total, places) => total + ((readBits(block, places) << 24) >> 24), 0);
  const { d, s } = scales;
  // s is made of the unrounded d: half a step of d away at most, times the sum, and its own rounding.
  const slack =
    Math.abs(sum) * Math.max(Math.abs(d) * 2 ** -10, 2 ** -24) + Math.max(Math.abs(s) * 2 ** -10, 2 ** -24);
  if (Number.isFinite(s) && Number.isFinite(d) && Math.abs(s - sum * d) > slack)
    broken.push("s is not d times the sum of the codes");
  return broken;
};

const sums16: BlockRule = (_scales, block, layout) => {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  for (let j = 0; j < 16; j++) {
    let sum = 0;
    for (let i = 16 * j; i < 16 * j + 16; i++) sum += (readBits(block, layout.codes[i]) << 24) >> 24;
    if (view.getInt16(260 + 2 * j, true) !== sum) return ["a sum is not that of its codes"];
  }
  return [];
};

const BLOCK_RULES: Partial<Record<IsqType, BlockRule>> = {
  Q4_1: notNegative("d"),
  Q5_1: notNegative("d"),
  Q8_0: bytes,
  Q8_1: summed,
  Q8K: sums16,
  Q2K: notNegative("d", "dmin"),
  Q4K: notNegative("d", "dmin"),
  Q5K: notNegative("d", "dmin"),
};

function inspectGroups({ type, data, scales, zeros }: QuantizedTensor): Inspection {
  const largest = type === "HQQ4" ? 16 : 256;
  const codes = new Array<number>(largest).fill(0);
  for (const byte of data) {
    if (largest === 256) codes[byte]++;
    else {
      codes[byte >> 4]++;
      codes[byte & 15]++;
    }
  }
  const faults = new FaultList();
  const nonFinite: number[] = [];
  scales?.forEach((scale, j) => {
    if (!Number.isFinite(scale) || !Number.isFinite(zeros?.[j])) nonFinite.push(j);
    else if (scale <= 0) faults.add("scale is not positive", j);
  });
  return summary(scales?.length ?? 0, nonFinite, faults, codes);
}

function inspectFloats({ data, dequantizeScale }: QuantizedTensor): Inspection {
  const codes = new Array<number>(256).fill(0);
  for (const byte of data) codes[byte]++;
  const faults = new FaultList();
  if ((dequantizeScale ?? 1) <= 0) faults.add("dequantize scale is not positive", 0);
  for (const code of [0x7f, 0xff]) for (let i = 0; i < codes[code]; i++) faults.add("a code is NaN", 0);
  return summary(1, Number.isFinite(dequantizeScale) ? [] : [0], faults, codes);
}
