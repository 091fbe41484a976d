/**
 * Shared memory is freed when every thread that saw it has collected its garbage, WebAssembly memory when its own thread
 * has; and heaps that hardly grow never do.
 */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Shared bytes that a thread may have let go of before it collects: a few milliseconds for each such amount. */
const MOST_LET_GO = 2 ** 26;

export interface Collector {
  /** Counts bytes that this thread lets go of, and collects when they are many. */
  letGo(byteLength: number): void;
  /** Collects now. */
  collect(): void;
}

export function createCollector(): Collector {
  let sum = 0;
  let run: (() => void) | undefined;
  const collect = () => {
    sum = 0;
    run ??= findCollect();
    run();
  };
  return {
    collect,
    letGo(byteLength) {
      sum += byteLength;
      if (sum >= MOST_LET_GO) collect();
    },
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
