/** Reads the golden vectors of this folder. */

import { readFileSync } from "node:fs";
import { brotliDecompressSync } from "node:zlib";
import { parseVectors, type Vectors } from "./parse.js";

export type * from "./parse.js";

export function loadVectors(): Vectors {
  return parseVectors(brotliDecompressSync(readFileSync(new URL("./vectors.br", import.meta.url))));
}
