/**
 * The steps in which other builds of the same encoder may differ: fused multiply-add, another nearest integer, a
 * reciprocal where the contract divides. The contract's own choice is {@link STRICT}; the others are hypotheses about a
 * subject.
 */

import { f32, nearestInt, roundHalfAway } from "../numerics.js";

export type Round = (v: number) => number;

/** All arguments and results are binary32. */
export interface Arithmetic {
  /** a·b + c */
  readonly mulAdd: (a: number, b: number, c: number) => number;
  /** a·b - c·d */
  readonly crossDifference: (a: number, b: number, c: number, d: number) => number;
  /** The nearest integer of a·b by the lineage's rule. */
  readonly roundProduct: (round: Round, a: number, b: number) => number;
  /** a / b, anywhere but in `quotient`. */
  readonly divide: (a: number, b: number) => number;
  /** a / b where values are coded under stored scales. */
  readonly quotient: (a: number, b: number) => number;
  /** x / d where the contract multiplies by id = 1 / d. */
  readonly byReciprocal: (x: number, d: number, id: number) => number;
  /** A nearest-integer rule in place of the lineage's. */
  readonly round?: Round;
  /** With `round`: Q4_0 and Q5_0 add the middle code before they round, as the contract does, not after. */
  readonly shiftFirst?: boolean;
  /** A candidate of a search wins only by this share of the best (negative: also when it loses by less). */
  readonly margin?: number;
}

/** Whether a candidate's error beats the best one so far. */
export const isLess = ({ margin }: Arithmetic, error: number, best: number): boolean =>
  error < (margin === undefined ? best : best * (1 - margin));

/** Whether a candidate's score beats the best one so far. */
export const isMore = ({ margin }: Arithmetic, score: number, best: number): boolean =>
  score > (margin === undefined ? best : best * (1 + margin));

export const STRICT: Arithmetic = {
  mulAdd: (a, b, c) => f32(f32(a * b) + c),
  crossDifference: (a, b, c, d) => f32(f32(a * b) - f32(c * d)),
  roundProduct: (round, a, b) => round(f32(a * b)),
  divide: (a, b) => f32(a / b),
  quotient: (a, b) => f32(a / b),
  byReciprocal: (x, _d, id) => f32(x * id),
};

const scratch = new Float64Array(1);
const words = new Uint32Array(scratch.buffer);

/** a·b + c rounded once, as the instruction does it. */
export function fusedMultiplyAdd(a: number, b: number, c: number): number {
  const product = a * b; // exact: 48 bits
  const sum = product + c;
  if (!Number.isFinite(sum)) return f32(sum);
  const rest = sum - product;
  const error = product - (sum - rest) + (c - rest);
  if (error === 0) return f32(sum);
  // To odd: a sum that was rounded must not look like a tie of binary32.
  scratch[0] = sum;
  if ((words[0] & 1) === 0) {
    if (error > 0 === sum > 0) words[0] += 1;
    else {
      if (words[0] === 0) words[1] -= 1;
      words[0] -= 1;
    }
  }
  return f32(scratch[0]);
}

/** ggml's nearest_int is an addition of 1.5·2^23, which a compiler can fuse with the product that it rounds. */
function fusedNearest(round: Round, a: number, b: number): number {
  if (round !== nearestInt) return round(f32(a * b));
  return nearestInt(fusedMultiplyAdd(a, b, 12582912) - 12582912);
}

/** What compilers make of one expression when they may contract it. */
const FUSED_EXPRESSIONS: Arithmetic = {
  ...STRICT,
  mulAdd: fusedMultiplyAdd,
  crossDifference: (a, b, c, d) => fusedMultiplyAdd(a, b, -f32(c * d)),
};

const halfUp: Round = (v) => Math.floor(f32(v + 0.5));
const down: Round = (v) => (Number.isFinite(v) ? Math.floor(v) : 0);
const truncated: Round = (v) => (Number.isFinite(v) ? Math.trunc(v) : 0);
const product = (a: number, b: number): number => f32(a * f32(1 / b));

/** A way in which a build may differ, with the words for it. */
export interface Hypothesis {
  readonly cause: CauseName;
  readonly detail: string;
  readonly arithmetic: Arithmetic;
}

export type CauseName =
  | "fused multiply-add"
  | "other nearest-integer rule"
  | "reciprocal instead of division"
  | "division instead of reciprocal"
  | "other lineage"
  | "other importance"
  | "wrong nibble order"
  | "wrong stride"
  | "wrong byte order"
  | "subnormal scales taken as zero"
  | "other order of steps";

export const HYPOTHESES: readonly Hypothesis[] = [
  {
    cause: "fused multiply-add",
    detail: "within expressions, as clang contracts",
    arithmetic: FUSED_EXPRESSIONS,
  },
  {
    cause: "fused multiply-add",
    detail: "within expressions and into nearest_int, as gcc contracts",
    arithmetic: { ...FUSED_EXPRESSIONS, roundProduct: fusedNearest },
  },
  {
    cause: "fused multiply-add",
    detail: "in sums; of a·b - c·d the second product",
    arithmetic: {
      ...FUSED_EXPRESSIONS,
      crossDifference: (a, b, c, d) => fusedMultiplyAdd(-c, d, f32(a * b)),
    },
  },
  {
    cause: "other nearest-integer rule",
    detail: "ties away from zero",
    arithmetic: { ...STRICT, round: roundHalfAway },
  },
  {
    cause: "other nearest-integer rule",
    detail: "ties to even",
    arithmetic: { ...STRICT, round: nearestInt },
  },
  { cause: "other nearest-integer rule", detail: "floor(v + 0.5)", arithmetic: { ...STRICT, round: halfUp } },
  {
    cause: "other nearest-integer rule",
    detail: "truncation toward zero",
    arithmetic: { ...STRICT, round: truncated },
  },
  {
    cause: "other nearest-integer rule",
    detail: "always down",
    arithmetic: { ...STRICT, round: down, shiftFirst: true },
  },
  {
    cause: "reciprocal instead of division",
    detail: "where values are coded",
    arithmetic: { ...STRICT, quotient: product },
  },
  {
    cause: "reciprocal instead of division",
    detail: "everywhere",
    arithmetic: { ...STRICT, quotient: product, divide: product },
  },
  {
    cause: "division instead of reciprocal",
    detail: "where values are coded",
    arithmetic: { ...STRICT, byReciprocal: (x, d) => (d !== 0 ? f32(x / d) : 0) },
  },
];
