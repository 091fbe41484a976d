/**
 * isq/vectors: what an encoder, decoder or dot product must compute, as data, to be bit-exact with this project's contract.
 * PROVENANCE.md beside it says where each byte comes from.
 */

import { IsqError } from "../errors.js";
import { parseVectors, type Vectors } from "./parse.js";

export type { Mutant } from "./mutants.js";
export { MUTANTS } from "./mutants.js";
export type * from "./parse.js";
export { parseVectors } from "./parse.js";
export type { Trap } from "./traps.js";
export { loadTraps } from "./traps.js";

/**
 * Reads the golden set that lies beside this module. Throws `backend/unavailable` where the runtime cannot decompress
 * brotli: decompress `isq/vectors/vectors.br` elsewhere, or have it served with `content-encoding: br`, and give the bytes
 * to {@link parseVectors}.
 */
export async function readVectors(url: URL = new URL("./vectors.br", import.meta.url)): Promise<Vectors> {
  const response = await fetch(url);
  const bytes = new Uint8Array(await response.arrayBuffer());
  // A server may have said that the file is compressed, and then it is so no longer.
  if (isUnpacked(bytes)) return parseVectors(bytes);
  return parseVectors(await decompress(bytes));
}

/** The manifest's length, then `{`. */
const isUnpacked = (bytes: Uint8Array): boolean => bytes[4] === 0x7b && bytes[5] === 0x22;

async function decompress(bytes: Uint8Array): Promise<Uint8Array> {
  let stream: DecompressionStream;
  try {
    stream = new DecompressionStream("brotli" as CompressionFormat);
  } catch (cause) {
    const message = "this runtime has no brotli; give the decompressed bytes of vectors.br to parseVectors";
    throw new IsqError("backend/unavailable", message, { field: "brotli" }, { cause });
  }
  return new Uint8Array(
    await new Response(new Blob([bytes as BlobPart]).stream().pipeThrough(stream)).arrayBuffer(),
  );
}
