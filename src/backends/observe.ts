/**
 * What goes into linears, summed up: the raw material of importance matrices. The sums are binary64 and rows are added in the
 * order in which steps run them, one column independent of the next, so every backend and thread count has the same bits for
 * the same activations.
 */

import { rowElements } from "../quants/tensor.js";
import type { Program, WeightIndex } from "./program.js";

/** Rows of activations that went into one weight. */
export interface ObservedInput {
  /** Sum of the squares, for each column. The square of a binary32 number is exact in binary64. */
  readonly squares: Float64Array;
  /** One element: how many rows were added. */
  readonly rows: Float64Array;
}

/** By weight; null for those that are no matrix of a linear. Experts see the rows that were routed to them. */
export type Observation = readonly (ObservedInput | null)[];

/** Sums of zero for every linear of a program, in memory that `make` gives. */
export function createObservation(program: Program, make: (length: number) => Float64Array): Observation {
  const inputs: (ObservedInput | null)[] = program.weights.map(() => null);
  for (const op of program.ops) {
    const matrices = op.kind === "linear" ? [op.weight] : op.kind === "expertLinear" ? op.experts : [];
    for (const weight of matrices) {
      const columns = rowElements(program.weights[weight].shape);
      inputs[weight] ??= { squares: make(columns), rows: make(1) };
    }
  }
  return inputs;
}

/** Where rows of activations lie: row r from `start + r · width` on. */
export interface ObservedRows {
  readonly values: Float32Array;
  readonly start: number;
  readonly width: number;
}

/** Adds `count` rows, in columns `first` to `last` only. Whoever has the first column counts the rows. */
export function addSquares(
  observation: Observation,
  weight: WeightIndex,
  { values, start, width }: ObservedRows,
  count: number,
  [first, last]: readonly [first: number, last: number] = [0, width],
): void {
  const { squares, rows } = observation[weight]!;
  for (let row = 0, at = start; row < count; row++, at += width) {
    for (let column = first; column < last; column++) {
      const value = values[at + column];
      squares[column] += value * value;
    }
  }
  if (first === 0) rows[0] += count;
}
