/** Files that a worker thread reads for itself, blocking. */

import { closeSync, openSync, readSync } from "node:fs";
import type { OpenFile } from "../backends/file-values.js";
import { IsqError } from "../errors.js";

export const openFileSync: OpenFile = ({ path }) => {
  const descriptor = attempt("source/open", path, () => openSync(path, "r"));
  return {
    readAt(target, position) {
      for (let done = 0; done < target.length; ) {
        const count = attempt("source/read", path, () =>
          readSync(descriptor, target, done, target.length - done, position + done),
        );
        if (count === 0) {
          throw new IsqError("source/short", `${path} ends at byte ${position + done}`, {
            file: path,
            value: position + done,
            limit: position + target.length,
          });
        }
        done += count;
      }
    },
    close: () => closeSync(descriptor),
  };
};

function attempt<Result>(tag: "source/open" | "source/read", file: string, work: () => Result): Result {
  try {
    return work();
  } catch (cause) {
    const message = `${file}: ${cause instanceof Error ? cause.message : cause}`;
    throw new IsqError(tag, message, { file }, { cause });
  }
}
