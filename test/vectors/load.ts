/** Reads the golden vectors of src/vectors. */

import { readFileSync } from "node:fs";
import { brotliDecompressSync } from "node:zlib";
import { parseVectors, type Vectors } from "../../src/vectors/parse.js";

export function loadVectors(): Vectors {
  return parseVectors(
    brotliDecompressSync(readFileSync(new URL("../../src/vectors/vectors.br", import.meta.url))),
  );
}
