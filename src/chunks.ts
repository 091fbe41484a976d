/** Texts in pieces that a model can read: windows of tokens, which may overlap. */

import { IsqError } from "./errors.js";

/** A window of text. */
export interface Chunk {
  /** With the BOS in front, where the tokenizer has one. */
  readonly tokens: readonly number[];
  /** The predictions that count start after this token: earlier ones were made, with more to go on, in the window before. */
  readonly scoredFrom: number;
}

/** How a text is cut into chunks; all lengths in tokens. */
export interface ChunkOptions {
  /** Tokens per chunk before the BOS is put in front; 1024, as mistral.rs has it, when absent. */
  readonly chunkTokens?: number;
  /** From the start of one chunk to that of the next; as many as a chunk has, so that none overlap, when absent. */
  readonly stride?: number;
  /** Only this many chunks from the start. */
  readonly maxChunks?: number;
}

/**
 * Cuts token ids into chunks, each with the BOS in front. With a stride below the chunk's length every token is predicted once,
 * from at least `chunkTokens - stride` tokens before it after the first chunk. Throws `prompt/empty` when there is nothing to
 * predict, `option/invalid`.
 */
export function chunkTokens(
  ids: readonly number[],
  bos: number | null,
  { chunkTokens = 1024, stride = chunkTokens, maxChunks = Number.POSITIVE_INFINITY }: ChunkOptions = {},
): Chunk[] {
  checkOption("chunkTokens", chunkTokens, 2, Number.MAX_SAFE_INTEGER);
  checkOption("stride", stride, 1, chunkTokens);
  const front = bos === null ? [] : [bos];
  const chunks: Chunk[] = [];
  for (let start = 0; start < ids.length && chunks.length < maxChunks; start += stride) {
    const tokens = [...front, ...ids.slice(start, start + chunkTokens)];
    const known = start === 0 ? 0 : chunkTokens - stride;
    const scoredFrom = start === 0 || known === 0 ? 0 : front.length + known - 1;
    if (scoredFrom < tokens.length - 1) chunks.push({ tokens, scoredFrom });
    if (start + chunkTokens >= ids.length) break; // the rest would be predicted twice
  }
  if (chunks.length > 0) return chunks;
  throw new IsqError("prompt/empty", "the text has no token to predict", {
    field: "text",
    value: ids.length,
  });
}

function checkOption(field: string, value: number, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
  const message = `${field} must be a whole number of tokens ${range}, not ${value}`;
  throw new IsqError("option/invalid", message, { field, value, limit: [least, most] });
}
