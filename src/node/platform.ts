/** What the core asks of a runtime that has files and threads: `#platform` resolves here under Node, Deno and Bun. */

import type { Backend } from "../backends/backend.js";
import type { OpenBackendOptions } from "../backends/open.js";

export { openDirectory } from "./directory.js";
export { openFile } from "./file-source.js";
export { openHasher } from "./hash.js";
export { openPartialFile } from "./partial-file.js";
export { writeTextFile } from "./text-file.js";

/** Throws as `threads` of isq/threads. Loaded when asked for: a pool is much code for who wants none. */
export async function openThreads(options: OpenBackendOptions): Promise<Backend> {
  const { threads } = await import("../backends/threads.js");
  return threads(options);
}
