/** Checks at the door of a session that backends share. */

import { IsqError } from "../errors.js";
import { MOST_POSITIONS } from "./angles.js";
import type { SessionOptions, Tensor } from "./backend.js";
import type { Program, WeightIndex } from "./program.js";
import { checkParts } from "./reference-linear.js";

/** Throws `option/invalid`. */
export function checkCachePositions({ cachePositions }: SessionOptions): number {
  if (Number.isSafeInteger(cachePositions) && cachePositions >= 1 && cachePositions <= MOST_POSITIONS) {
    return cachePositions;
  }
  throw new IsqError(
    "option/invalid",
    `cachePositions must be from 1 to ${MOST_POSITIONS}, not ${cachePositions}`,
    { field: "cachePositions", value: cachePositions, limit: MOST_POSITIONS },
  );
}

/** Throws `tensor/missing` for an unknown weight, `tensor/shape`, `data/length`. */
export function checkPlacement(program: Program, index: WeightIndex, tensor: Tensor): void {
  checkWeightShape(program, index, tensor.shape);
  checkParts(tensor);
}

/** Throws `tensor/missing` for an unknown weight, `tensor/shape`. */
export function checkWeightShape(program: Program, index: WeightIndex, shape: readonly number[]): void {
  checkWeightIndex(program, index);
  const spec = program.weights[index];
  if (shape.length === spec.shape.length && shape.every((size, i) => size === spec.shape[i])) return;
  throw new IsqError(
    "tensor/shape",
    `${spec.name} is [${shape.join(", ")}] and must be [${spec.shape.join(", ")}]`,
    { tensor: spec.name, field: "shape", value: shape, limit: spec.shape },
  );
}

/** Throws `tensor/missing` for an unknown weight. */
export function checkWeightIndex({ weights }: Program, index: WeightIndex): void {
  if (weights[index] !== undefined) return;
  const details = { field: "weight", value: index, limit: weights.length - 1 };
  throw new IsqError("tensor/missing", `the program has no weight ${index}`, details);
}
