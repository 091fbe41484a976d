/** The implementations under test: every suite that takes an implementation runs once for each. */

import {
  bfloatFromFloat,
  floatFromBfloat,
  floatFromE4m3,
  floatFromHalf,
  halfFromFloat,
} from "../src/numerics.js";
import { dequantize, dot, quantize } from "../src/quants/index.js";
import type { Codec } from "./suites/codec-checks.js";

export interface Implementation {
  readonly name: string;
  makeCodec(): Codec | Promise<Codec>;
}

export const IMPLEMENTATIONS: readonly Implementation[] = [
  {
    name: "reference",
    makeCodec: () => ({
      quantize,
      dequantize,
      dot,
      convert: {
        halves: (values) => Uint16Array.from(values, halfFromFloat),
        bfloats: (values) => Uint16Array.from(values, bfloatFromFloat),
        fromHalves: (halves) => Float32Array.from(halves, floatFromHalf),
        fromBfloats: (bfloats) => Float32Array.from(bfloats, floatFromBfloat),
        fromE4m3: (codes) => Float32Array.from(codes, floatFromE4m3),
      },
    }),
  },
];
