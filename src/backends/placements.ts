/** The weights of a session: those in force, and those that wait to be put in force together. */

import { IsqError } from "../errors.js";
import type { Program, WeightIndex } from "./program.js";

export interface Placements<Value> {
  /** Puts a weight in force, or holds it; what it replaces is freed. */
  put(weight: WeightIndex, value: Value): void;
  /** Whether a weight is in force, and no other is held to replace it. */
  settled(weight: WeightIndex): boolean;
  /** What is in force. Throws `tensor/missing`. */
  get(weight: WeightIndex): Value;
  /** Throws `tensor/missing` for the first weight that was not placed. */
  checkAll(): void;
  /** As of a session. */
  hold(): void;
  commit(): void;
  discard(): void;
  /** Frees everything. */
  clear(): void;
}

/** @param free Is told of every value that nothing uses any more. */
export function createPlacements<Value>(
  { weights }: Program,
  free: (value: Value) => void = () => {},
): Placements<Value> {
  const inForce: (Value | undefined)[] = new Array(weights.length).fill(undefined);
  let held: Map<WeightIndex, Value> | null = null;
  const install = (weight: WeightIndex, value: Value) => {
    const before = inForce[weight];
    inForce[weight] = value;
    if (before !== undefined) free(before);
  };
  const get = (weight: WeightIndex): Value => {
    const value = inForce[weight];
    if (value !== undefined) return value;
    const { name, shape } = weights[weight];
    throw new IsqError("tensor/missing", `${name} [${shape.join(", ")}] was not placed`, { tensor: name });
  };
  const discard = () => {
    for (const value of held?.values() ?? []) free(value);
    held = null;
  };
  return {
    put(weight, value) {
      if (!held) return install(weight, value);
      const before = held.get(weight);
      held.set(weight, value);
      if (before !== undefined) free(before);
    },
    settled: (weight) => held === null && inForce[weight] !== undefined,
    get,
    checkAll() {
      for (let weight = 0; weight < inForce.length; weight++) get(weight);
    },
    hold() {
      if (held) throw new IsqError("option/conflict", "weights are held already", { field: "hold" });
      held = new Map();
    },
    commit() {
      if (!held) throw new IsqError("option/conflict", "no weights are held", { field: "commit" });
      const successors = held;
      held = null;
      for (const [weight, value] of successors) install(weight, value);
    },
    discard,
    clear() {
      discard();
      for (const value of inForce) if (value !== undefined) free(value);
      inForce.length = 0;
    },
  };
}
