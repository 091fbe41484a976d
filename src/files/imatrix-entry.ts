/** What an importance matrix is, whatever file it was in. */

import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";

/** `legacy`: llama.cpp's `.imatrix` or `.dat`; `cimatrix-v1` has numbers in the place of names. */
export type ImatrixFormat = "legacy" | "gguf" | "cimatrix" | "cimatrix-v1";

/** One tensor's statistics. */
export interface ImatrixEntry {
  /** `[matrices × columns]`: one matrix, or one for each expert. */
  readonly sums: Float32Array;
  /** What each matrix's sums are divided by to be means; 0: nothing went through it, and its sums are 0. */
  readonly counts: readonly number[];
}

/** A file of importance: sums of squared activations by column. */
export interface Imatrix {
  readonly format: ImatrixFormat;
  /**
   * In the order of the file. Names are GGUF's (`blk.0.attn_q.weight`) in `legacy` and `gguf`, module paths
   * (`model.layers.0.self_attn.q_proj`) in `cimatrix`, and places in mistral.rs's list of layers (`12`) in `cimatrix-v1`.
   */
  readonly entries: ReadonlyMap<string, ImatrixEntry>;
  /** Names of the texts that were read, where the file says. */
  readonly datasets: readonly string[];
  /** Chunks of text and tokens of each, where the file says. */
  readonly chunks?: number;
  readonly chunkTokens?: number;
}

/** Means of squares, [matrices × columns]: zeros where nothing was counted. */
export function meansOf({ sums, counts }: ImatrixEntry): Float32Array {
  if (counts.every((count) => count === 1)) return sums;
  const columns = sums.length / counts.length;
  return sums.map((sum, i) => {
    const count = counts[Math.floor(i / columns)];
    return count > 0 ? sum / count : 0;
  });
}

/** Whether a name is not empty, not too long and free of control characters. */
export function isEntryName(name: string): boolean {
  return name !== "" && name.length <= LIMITS.tensorNameLength && !/\p{Cc}|\p{Surrogate}/u.test(name);
}

/** Throws with the file's name. */
export function refuseImatrix(
  { file }: { readonly file: string },
  tag: ErrorTag,
  message: string,
  details: ErrorDetails,
): never {
  throw new IsqError(tag, `${file}: ${message}`, { file, ...details });
}
