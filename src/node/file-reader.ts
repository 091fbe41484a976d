/** Values of tensors in files, read by ranges on the worker that needs them. */

import { closeSync, openSync, readSync } from "node:fs";
import type { FileTensor } from "../backends/backend.js";
import type { Bank } from "../backends/wasm-bank.js";
import { widenRun } from "../backends/wasm-decode.js";
import type { ValueReader } from "../backends/wasm-encode.js";
import { DENSE_BYTES } from "../dense.js";
import { IsqError } from "../errors.js";

export interface FileReader extends ValueReader {
  /** Fills `target` from a byte of the tensor on. Throws `source/short`, `source/read`. */
  readBytes(target: Uint8Array, byteOffset: number): void;
  close(): void;
}

/** Opens the file of a tensor. Throws `source/open`. */
export function openFileReader({ path, byteOffset, type }: FileTensor): FileReader {
  const descriptor = attempt("source/open", path, () => openSync(path, "r"));
  const size = DENSE_BYTES[type];
  const readBytes = (target: Uint8Array, offset: number) => {
    for (let done = 0; done < target.length; ) {
      const position = byteOffset + offset + done;
      const count = attempt("source/read", path, () =>
        readSync(descriptor, target, done, target.length - done, position),
      );
      if (count === 0) {
        throw new IsqError("source/short", `${path} ends at byte ${position}`, {
          file: path,
          value: position,
          limit: byteOffset + offset + target.length,
        });
      }
      done += count;
    }
  };
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
    close: () => closeSync(descriptor),
  };
}

function attempt<Result>(tag: "source/open" | "source/read", file: string, work: () => Result): Result {
  try {
    return work();
  } catch (cause) {
    const message = `${file}: ${cause instanceof Error ? cause.message : cause}`;
    throw new IsqError(tag, message, { file }, { cause });
  }
}
