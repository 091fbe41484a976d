/** Values of a tensor in a file, read by ranges on the thread that needs them. */

import { DENSE_BYTES } from "../dense.js";
import type { FileTensor } from "./backend.js";
import type { ValueReader } from "./encode-job.js";
import type { Bank } from "./wasm-bank.js";
import { widenRun } from "./wasm-decode.js";

/** An open file: reading blocks the thread. */
export interface OpenedFile {
  /** Fills `target` from a byte of the file on. Throws `source/short`, `source/read`. */
  readAt(target: Uint8Array, position: number): void;
  close(): void;
}

/** Opens a file or a Blob. Throws `source/open`. */
export type OpenFile = (file: Pick<FileTensor, "path" | "blob">) => OpenedFile;

export interface FileValues extends ValueReader {
  /** Fills `target` from a byte of the tensor on. Throws `source/short`, `source/read`. */
  readBytes(target: Uint8Array, byteOffset: number): void;
  close(): void;
}

/** Opens the file of a tensor. Throws `source/open`. */
export function openFileValues(tensor: FileTensor, open: OpenFile): FileValues {
  const file = open(tensor);
  const { byteOffset, type } = tensor;
  const size = DENSE_BYTES[type];
  const readBytes = (target: Uint8Array, offset: number) => file.readAt(target, byteOffset + offset);
  return {
    readBytes,
    read(bank: Bank, first, count, address) {
      if (type === "F32") {
        readBytes(bank.bytes.subarray(address, address + 4 * count), 4 * first);
        return;
      }
      // Halves are read into the second half of the room for their floats: going forward, no float reaches an unread one.
      const halves = address + size * count;
      readBytes(bank.bytes.subarray(halves, halves + size * count), size * first);
      widenRun(bank, type, halves, address, count);
    },
    close: () => file.close(),
  };
}
