/** What the core asks of a runtime that has files: `#platform` resolves here under Node, Deno and Bun. */

export { openDirectory } from "./directory.js";
