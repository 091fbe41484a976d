/** Rows of a quantized tensor against the values they are said to be made of: what each differing block is. */

import { TYPES } from "../quants/table.js";
import { type Arithmetic, HYPOTHESES, STRICT } from "./arithmetic.js";
import { checkBlock, isPossible, keepsCodes } from "./consistency.js";
import { type BlockExplanation, explainRow } from "./explain.js";
import { readBlock } from "./layout.js";
import { encodeRowBlock, type RowInput } from "./trace-row.js";

/** From best to worst. */
export const BLOCK_CLASSES = ["identical", "near-tie", "other-search", "foreign"] as const;
/** How a block compares with what an encoder makes of the source, the best first. */
export type BlockClass = (typeof BLOCK_CLASSES)[number];

/** The block of a tensor that is furthest from its source, of the worst class there is. */
export interface WorstBlock {
  readonly class: BlockClass;
  readonly row: number;
  /** In the row. */
  readonly block: number;
  /** First column of the block. */
  readonly column: number;
  /** Of the element that is furthest from its code, in the block. */
  readonly element: number;
  /** Its distance from its code, in codes. */
  readonly distance: number;
  readonly explanation?: BlockExplanation;
}

/** Builds that decide alike but for the last bits: fused steps, and searches whose nearly equal candidates fall otherwise. */
const NEAR_TIES: readonly Arithmetic[] = [
  ...HYPOTHESES.filter(({ cause }) => cause === "fused multiply-add").map(({ arithmetic }) => arithmetic),
  { ...STRICT, margin: 2 ** -16 },
  { ...STRICT, margin: -(2 ** -16) },
];
/** Two codes are a near tie when the value lies this near to the middle between them, in codes. */
const TIE = 2 ** -12;

/** What the differing block `b` of a row is. */
export function classifyBlock(
  row: RowInput,
  b: number,
  expected: Uint8Array,
  actual: Uint8Array,
): { class: BlockClass; element: number; distance: number } {
  const { type, values } = row;
  const { blockElements } = TYPES[type];
  const x = values.subarray(b * blockElements, (b + 1) * blockElements);
  const { element, distance } = checkBlock(type, actual, x);
  if (isNearTie(row, b, expected, actual)) return { class: "near-tie", element, distance };
  // Equal scales with other codes: only a search whose codes are kept can have chosen both.
  const possible =
    isPossible(type, actual, x, distance) && (keepsCodes(type) || !sameScales(row, expected, actual));
  return { class: possible ? "other-search" : "foreign", element, distance };
}

function isNearTie(row: RowInput, b: number, expected: Uint8Array, actual: Uint8Array): boolean {
  if (sameScales(row, expected, actual)) return onlyTies(row, b, expected, actual);
  return NEAR_TIES.some((arithmetic) => {
    const made = encodeRowBlock(row, b, arithmetic);
    return made.every((byte, i) => byte === actual[i]);
  });
}

function sameScales({ type }: RowInput, expected: Uint8Array, actual: Uint8Array): boolean {
  const [a, b] = [readBlock(type, expected), readBlock(type, actual)];
  const same = (name: string) => Object.is(a.scales[name], b.scales[name]);
  const equal = (list: "subScales" | "subMins") =>
    a[list].every(({ stored }, j) => stored === b[list][j].stored);
  return Object.keys(a.scales).every(same) && equal("subScales") && equal("subMins");
}

/** Under equal scales: every differing code is the other neighbour of a value that lies in the middle. */
function onlyTies(row: RowInput, b: number, expected: Uint8Array, actual: Uint8Array): boolean {
  const { type, values } = row;
  const { blockElements } = TYPES[type];
  const x = values.slice(b * blockElements, (b + 1) * blockElements);
  const [right, given] = [readBlock(type, expected), readBlock(type, actual)];
  for (let i = 0; i < x.length; i++) {
    if (right.codes[i].stored === given.codes[i].stored) x[i] = Number.NaN;
    else if (Math.abs(right.codes[i].value - given.codes[i].value) !== 1) return false;
  }
  return checkBlock(type, actual, x).distance <= 0.5 + TIE;
}

/** Counts of one or more rows. */
export interface RowCounts {
  readonly identical: number;
  readonly "near-tie": number;
  readonly "other-search": number;
  readonly foreign: number;
}

/** Collects the classes of differing blocks and keeps the worst one. */
export class BlockTally {
  readonly counts = { identical: 0, "near-tie": 0, "other-search": 0, foreign: 0 };
  private worst: { found: WorstBlock; row: RowInput; expected: Uint8Array; actual: Uint8Array } | undefined;

  /** Compares a row. Canonical bytes: scales that are NaN have one pattern in both. */
  addRow(row: RowInput, index: number, expected: Uint8Array, actual: Uint8Array): void {
    const { blockBytes, blockElements } = TYPES[row.type];
    for (let b = 0; b * blockBytes < expected.length; b++) {
      const ours = expected.subarray(b * blockBytes, (b + 1) * blockBytes);
      const theirs = actual.subarray(b * blockBytes, (b + 1) * blockBytes);
      if (ours.every((byte, i) => byte === theirs[i])) {
        this.counts.identical++;
        continue;
      }
      const found = classifyBlock(row, b, ours, theirs);
      this.counts[found.class]++;
      const place = { row: index, block: b, column: b * blockElements };
      if (this.isWorse(found))
        this.worst = { found: { ...found, ...place }, row, expected: ours, actual: theirs };
    }
  }

  private isWorse(found: { class: BlockClass; distance: number }): boolean {
    if (!this.worst) return true;
    const rank = (name: BlockClass) => BLOCK_CLASSES.indexOf(name);
    const difference = rank(found.class) - rank(this.worst.found.class);
    return difference > 0 || (difference === 0 && found.distance > this.worst.found.distance);
  }

  /** The worst differing block, explained. */
  worstBlock(): WorstBlock | undefined {
    if (!this.worst) return undefined;
    const { found, row, expected, actual } = this.worst;
    const { blockBytes } = TYPES[row.type];
    const place = (block: Uint8Array) => {
      const whole = new Uint8Array((row.values.length / TYPES[row.type].blockElements) * blockBytes);
      whole.set(block, found.block * blockBytes);
      return whole;
    };
    const explanation = explainRow(row, place(expected), place(actual));
    return { ...found, ...(explanation && { explanation }) };
  }
}
