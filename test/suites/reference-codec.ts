/** The reference as the codec suite takes implementations. */

import {
  bfloatFromFloat,
  floatFromBfloat,
  floatFromE4m3,
  floatFromHalf,
  halfFromFloat,
} from "../../src/numerics.js";
import { dequantize, dot, quantize } from "../../src/quants/index.js";
import type { Codec } from "./codec-checks.js";

/** The reference, with what only it has: dot products of single rows in both orders, and number formats. */
export const REFERENCE: Codec = {
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
};
