/** What the core asks of a runtime that has files and threads: `#platform` resolves here under Node, Deno and Bun. */

import type { Crew } from "../backends/pool.js";

export { destroyAtExit, openGpu } from "./dawn.js";
export { openDirectory } from "./directory.js";
export { openFile } from "./file-source.js";
export { openHasher } from "./hash.js";
export { openPartialFile } from "./partial-file.js";
export { openPartialSet } from "./partial-set.js";
export { writeSmallFile } from "./small-file.js";

/** Starts worker threads. Loaded when asked for: a pool is much code for who wants none. Throws `option/invalid`. */
export async function openCrew(workers?: number): Promise<Crew> {
  return (await import("./crew.js")).openCrew(workers);
}
