/**
 * Whether a block can have been made of certain values by any search, under any importance: its codes must be what one
 * scale makes of the values.
 */

import { f32 } from "../numerics.js";
import { type IsqType, TYPES } from "../quants/table.js";
import { type Layout, layoutOf, readBlock } from "./layout.js";

export interface Consistency {
  /** Largest distance, in codes, of an element's stored code from the value it should stand for (clamped codes: 0). */
  readonly distance: number;
  /** The element of the largest distance. */
  readonly element: number;
}

/** Compares codes and values of one block. A scale of zero says nothing about its codes. */
export function checkBlock(type: IsqType, block: Uint8Array, values: Float32Array): Consistency {
  const layout = layoutOf(type) as Layout;
  const { scales, subScales, subMins, codes } = readBlock(type, block);
  const [low, high] = codeRange(layout);
  let distance = 0;
  let element = 0;
  for (let i = 0; i < codes.length; i++) {
    const j = Math.floor(i / layout.subElements);
    const scale = f32(scales["d"] * (subScales[j]?.value ?? 1));
    if (scale === 0) continue;
    const min = subMins.length > 0 ? f32(scales["dmin"] * subMins[j].value) : -(scales["m"] ?? 0);
    const wanted = Math.max(low, Math.min(high, f32(f32(values[i] + min) / scale)));
    const off = Math.abs(wanted - codes[i].value);
    if (!(off > distance)) continue; // NaN: nothing to compare with
    distance = off;
    element = i;
  }
  return { distance, element };
}

function codeRange({ codes, codeBias }: Layout): readonly [number, number] {
  if (codeBias === "signed") return [-128, 127];
  const width = codes[0].reduce((sum, bits) => sum + bits.width, 0);
  return [-codeBias, 2 ** width - 1 - codeBias];
}

/** The types that search nothing store a rounded scale, which moves the largest codes by up to 2^-11 of them. */
const WITHOUT_SEARCH = 0.5 + 127 * 2 ** -10;
/** The K types code values again under their stored scales. */
const CODED_AGAIN = 0.5 + 2 ** -10;

/** The types of 32 that can be searched under importance keep the codes of that search. */
export const keepsCodes = (type: IsqType): boolean =>
  TYPES[type].blockElements === 32 && TYPES[type].importance.length > 0;

/** True when some encoder of the type can have made the block. `distance` is that of {@link checkBlock}. */
export function isPossible(
  type: IsqType,
  block: Uint8Array,
  values: Float32Array,
  distance: number,
): boolean {
  if (TYPES[type].importance.length === 0) return distance <= WITHOUT_SEARCH;
  return keepsCodes(type) ? isOneGrid(type, block, values) : distance <= CODED_AGAIN;
}

/** Of a code's half-open interval; ties and binary32 rounding are not looked at here. */
const HALF = 0.5 + 2 ** -10;

/**
 * The types of 32 keep the codes of their search, whose scale and offset are not the stored ones. Whether there can be any
 * such a > 0 and b, with every code the integer nearest to a·x + b: each pair of elements bounds a from below and above.
 */
function isOneGrid(type: IsqType, block: Uint8Array, values: Float32Array): boolean {
  const layout = layoutOf(type) as Layout;
  const { scales, codes } = readBlock(type, block);
  const [low, high] = codeRange(layout);
  const sign = scales["d"] < 0 ? -1 : 1;
  let [least, most] = [0, Number.POSITIVE_INFINITY];
  for (let i = 0; i < values.length; i++) {
    for (let j = 0; j < values.length; j++) {
      const gap = sign * (values[i] - values[j]);
      if (!(gap >= 0) || i === j) continue;
      const [c, e] = [codes[i].value, codes[j].value];
      const above = c - HALF - (e + HALF);
      const below = c + HALF - (e - HALF);
      // A code at an end of the range says nothing about how far beyond it the value is.
      if (c > low && e < high) {
        if (gap === 0 && above > 0) return false;
        if (gap > 0) least = Math.max(least, above / gap);
      }
      if (c < high && e > low) {
        if (below < 0) return false;
        if (gap > 0) most = Math.min(most, below / gap);
      }
    }
  }
  return least <= most;
}
