/** The encoders there are, and values for them. Free of the test runner, so that any runtime can use it. */

import { randomFrom } from "../../src/oracle/random.js";
import { type Algorithm, type IsqType, TYPE_NAMES, TYPES } from "../../src/quants/index.js";

export interface Encoder {
  readonly type: IsqType;
  readonly algorithm: Algorithm;
  readonly importance: boolean;
}

/** Every type with every algorithm, without importance and with it where that exists. */
export const ENCODERS: readonly Encoder[] = TYPE_NAMES.flatMap((type) =>
  TYPES[type].algorithms.flatMap((algorithm) => [
    { type, algorithm, importance: false },
    ...(TYPES[type].importance.includes(algorithm) ? [{ type, algorithm, importance: true }] : []),
  ]),
);

export const nameOf = ({ type, algorithm, importance }: Encoder): string =>
  `${type} ${algorithm}${importance ? " with importance" : ""}`;

export function gauss(count: number, seed: number): Float32Array {
  const random = randomFrom(seed);
  return Float32Array.from({ length: count }, () => random.gauss() * 0.05);
}
