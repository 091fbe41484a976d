/** What was produced, as hashes by name. NaNs count as one: their signs and payloads are not defined anywhere. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { QuantizedTensor } from "../../../src/quants/index.js";
import { canonicalBits, withoutNanSigns } from "../compare.js";

export interface Digests {
  bytes(name: string, bytes: Uint8Array): void;
  floats(name: string, values: Float32Array): void;
  text(name: string, text: string): void;
  tensor(name: string, tensor: QuantizedTensor): void;
  /** Hex by name, in order of first use. */
  finish(): Map<string, string>;
}

export function createDigests(): Digests {
  const hashes = new Map<string, ReturnType<typeof sha256.create>>();
  const digests: Digests = {
    bytes(name, bytes) {
      const hash = hashes.get(name) ?? sha256.create();
      hashes.set(name, hash);
      hash.update(bytes);
    },
    floats: (name, values) => digests.bytes(name, new Uint8Array(canonicalBits(values).buffer)),
    text: (name, text) => digests.bytes(name, utf8ToBytes(text)),
    tensor(name, tensor) {
      const { type, data, scales, zeros, quantizeScale = 0, dequantizeScale = 0 } = tensor;
      digests.text(name, `${type} ${tensor.algorithm} ${tensor.shape}`);
      digests.bytes(name, withoutNanSigns(type, data));
      for (const values of [scales, zeros]) if (values) digests.floats(name, values);
      digests.floats(name, Float32Array.of(quantizeScale, dequantizeScale));
    },
    finish: () => new Map([...hashes].map(([name, hash]) => [name, bytesToHex(hash.digest())])),
  };
  return digests;
}
