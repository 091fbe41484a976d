/** SIMD passes over logits, in a memory of their own. */

import type { LogitKernels } from "../model/logits.js";
import type { Bank } from "./wasm-bank.js";

/** @param bank Its scratch area is used. */
export function wasmLogits(bank: Bank): LogitKernels {
  const load = (logits: Float32Array): number[] => {
    // Kernels go in steps of four.
    const byteLength = 4 * logits.length + 12;
    const addresses = bank.scratch(byteLength, byteLength);
    bank.floats.set(logits, addresses[0] / 4);
    return addresses;
  };
  return {
    largest: (logits) => bank.call("logits_largest", load(logits)[0], logits.length),
    weights(logits, most, temperature) {
      const [source, target] = load(logits);
      bank.call("logits_weights", source, target, logits.length, most, temperature);
      return bank.floats.slice(target / 4, target / 4 + logits.length);
    },
  };
}
