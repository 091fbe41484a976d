/** What a search considered, for explanations. */

import { bitsOf } from "../numerics.js";

export interface Candidate {
  /** Which of the search's tries, in words. */
  readonly step: string;
  readonly scale: number;
  /** The minimum (negated, ≥ 0) where the search has one. */
  readonly min?: number;
  /** Codes are the nearest integers of inverse·(x - offset). */
  readonly inverse?: number;
  readonly offset?: number;
  /** Weighted error: the least wins. Or explained weight Σwxl² / Σwll: the largest wins. */
  readonly value: number;
}

export interface SearchTrace {
  /** What the search chose a scale for: "sub-block 3", "the block", "the scales". */
  readonly of: string;
  /** Of equal candidates, and where the best is "last", the order decides. */
  readonly wins: "least error" | "largest score" | "last error";
  readonly candidates: readonly Candidate[];
}

export type Tracer = (search: SearchTrace) => void;

/** Binary32 numbers between two of the same sign; the distance through zero for others. NaN when one is no number. */
export function ulpsBetween(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.NaN;
  return Math.abs(orderOf(a) - orderOf(b));
}

function orderOf(v: number): number {
  const bits = bitsOf(v);
  return bits >>> 31 ? -(bits & 0x7fffffff) : bits;
}
