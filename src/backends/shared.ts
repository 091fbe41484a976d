/** Arrays that all threads see. */

import type { Tensor } from "./backend.js";

export const sharedBytes = (length: number): Uint8Array => new Uint8Array(new SharedArrayBuffer(length));
export const sharedFloats = (length: number): Float32Array =>
  new Float32Array(new SharedArrayBuffer(4 * length));
export const sharedWords = (length: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * length));

/** The same values in shared memory: a copy unless they are there already. */
export function shareFloats(values: Float32Array): Float32Array {
  if (values.buffer instanceof SharedArrayBuffer) return values;
  const shared = sharedFloats(values.length);
  shared.set(values);
  return shared;
}

export function shareBytes(bytes: Uint8Array): Uint8Array {
  if (bytes.buffer instanceof SharedArrayBuffer) return bytes;
  const shared = sharedBytes(bytes.length);
  shared.set(bytes);
  return shared;
}

export function shareTensor(tensor: Tensor): Tensor {
  const data = shareBytes(tensor.data);
  if (!("scales" in tensor) || !tensor.scales || !tensor.zeros) return { ...tensor, data };
  return { ...tensor, data, scales: shareFloats(tensor.scales), zeros: shareFloats(tensor.zeros) };
}
