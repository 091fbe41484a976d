/** isq/vectors where files can be read: Node, Deno and Bun. */

import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { parseVectors, type Vectors } from "../vectors/parse.js";

export type { Mutant } from "../vectors/mutants.js";
export { MUTANTS } from "../vectors/mutants.js";
export type * from "../vectors/parse.js";
export { parseVectors } from "../vectors/parse.js";
export type { Trap } from "../vectors/traps.js";
export { loadTraps } from "../vectors/traps.js";

/** Reads the golden set of the package, or another packed file. */
export async function readVectors(url = new URL("../vectors/vectors.br", import.meta.url)): Promise<Vectors> {
  return parseVectors(await promisify(brotliDecompress)(await readFile(url)));
}
