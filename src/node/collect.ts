/** Shared memory is freed when every thread that saw it has collected its garbage, and idle heaps never do. */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Shared bytes that a thread may have let go of before it collects: a few milliseconds for each such amount. */
const MOST_LET_GO = 2 ** 26;

/** Counts the bytes that this thread lets go of, and collects when they are many. */
export function createCollector(): (byteLength: number) => void {
  let letGo = 0;
  let collect: (() => void) | undefined;
  return (byteLength) => {
    letGo += byteLength;
    if (letGo < MOST_LET_GO) return;
    letGo = 0;
    collect ??= findCollect();
    collect();
  };
}

/** The collector of V8; nothing in runtimes that have none to call. */
function findCollect(): () => void {
  try {
    setFlagsFromString("--expose-gc");
    return runInNewContext("gc") as () => void;
  } catch {
    return () => {};
  }
}
