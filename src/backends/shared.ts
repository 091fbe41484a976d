/** Arrays that all threads see. */

import type { Tensor } from "./backend.js";

export const sharedBytes = (length: number): Uint8Array => new Uint8Array(new SharedArrayBuffer(length));
export const sharedFloats = (length: number): Float32Array =>
  new Float32Array(new SharedArrayBuffer(4 * length));
export const sharedDoubles = (length: number): Float64Array =>
  new Float64Array(new SharedArrayBuffer(8 * length));
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

/** The same values in a buffer of their own: a message to a thread carries all of the buffer that a view looks into. */
export function compact(values: Float32Array): Float32Array {
  const { buffer, byteLength } = values;
  return buffer instanceof SharedArrayBuffer || buffer.byteLength === byteLength ? values : values.slice();
}

export function shareTensor(tensor: Tensor): Tensor {
  const data = shareBytes(tensor.data);
  if (!("scales" in tensor) || !tensor.scales || !tensor.zeros) return { ...tensor, data };
  return { ...tensor, data, scales: shareFloats(tensor.scales), zeros: shareFloats(tensor.zeros) };
}

/** Bytes that are kept for the next call at most. */
const MOST_KEPT = 64 * 2 ** 20;

/**
 * Shared memory that is used again: threads that never collect their garbage would keep every piece of it alive. Larger
 * pieces than {@link MOST_KEPT} are not kept.
 */
export class Staging {
  #kept: SharedArrayBuffer[] = [];

  /** At least `byteLength` bytes, with whatever was in them. */
  lend(byteLength: number): SharedArrayBuffer {
    const index = this.#kept.findIndex((buffer) => buffer.byteLength >= byteLength);
    if (index >= 0) return this.#kept.splice(index, 1)[0];
    return new SharedArrayBuffer(byteLength);
  }

  /** Only what no thread writes to any more may come back. Keeps the four largest. */
  giveBack(buffer: SharedArrayBuffer): void {
    if (buffer.byteLength > MOST_KEPT) return;
    this.#kept = [...this.#kept, buffer].sort((a, b) => a.byteLength - b.byteLength).slice(-4);
  }
}
