/**
 * FP8: E4M3 codes with one scale per tensor. `ocp` maps the largest magnitude to 448; `mistralrs` caps at 416 and never
 * scales up by more than 416, rounding through bfloat16. Sources: OCP 8-bit floating point specification 1.0;
 * mistralrs-quant/src/fp8/quantize.rs with the float8 crate, whose `MAX` is 416.
 */

import { bfloatFromFloat, e4m3FromFloat, f32, floatFromBfloat, floatFromE4m3 } from "../numerics.js";
import type { TensorCodec } from "./codec.js";
import { signedPeak } from "./search.js";

const LARGEST = 448;
const FLOAT8_CRATE_MAX = 416;

const throughBfloat = (v: number): number => floatFromBfloat(bfloatFromFloat(v));

export const fp8: TensorCodec = {
  type: "FP8",

  encode(algorithm, values) {
    const data = new Uint8Array(values.length);
    if (algorithm === "ocp") {
      const peak = Math.abs(signedPeak(values));
      const scale = peak === 0 ? 1 : f32(peak / LARGEST);
      for (let i = 0; i < data.length; i++) data[i] = e4m3FromFloat(f32(values[i] / scale));
      return { data, quantizeScale: f32(1 / scale), dequantizeScale: scale };
    }
    const rounded = values.map(throughBfloat);
    const peak = Math.abs(signedPeak(rounded));
    const scale = peak === 0 ? FLOAT8_CRATE_MAX : Math.min(f32(FLOAT8_CRATE_MAX / peak), FLOAT8_CRATE_MAX);
    const factor = throughBfloat(scale);
    for (let i = 0; i < data.length; i++) data[i] = e4m3FromFloat(throughBfloat(f32(rounded[i] * factor)));
    return { data, quantizeScale: scale, dequantizeScale: f32(1 / scale) };
  },

  decode(tensor, out) {
    const scale = tensor.dequantizeScale as number;
    for (let i = 0; i < out.length; i++) out[i] = f32(floatFromE4m3(tensor.data[i]) * scale);
  },
};
