/** How much of the key-value cache a model gets, and how it is used. */

import { CACHE_BLOCK, type Program } from "../backends/program.js";
import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import type { SchedulerOptions } from "./scheduler.js";
import type { TokenizerSource } from "./tokenizer.js";

/** At most one of the first three, which say how large the cache is. */
export interface PagedAttentionOptions {
  /** Blocks of {@link PagedAttentionOptions.blockSize} positions. */
  readonly blocks?: number;
  /** Positions, over all running texts. */
  readonly contextLength?: number;
  /** Bytes of keys and values; at least one block's. */
  readonly byteLength?: number;
  /** Positions per block: 32, as the kernels have them. */
  readonly blockSize?: number;
  /** Whether texts share the cache of equal beginnings; true when absent. */
  readonly prefixReuse?: boolean;
}

/** What the builder knows about running texts. */
export interface RunningOptions {
  readonly paging?: PagedAttentionOptions;
  /** Positions without paged attention; the model's context when absent. */
  readonly contextLength?: number;
  readonly maxSequences?: number;
  readonly promptRows?: number;
  readonly keepCache?: boolean;
  /** What is not the model folder's own. */
  readonly tokenizer?: TokenizerSource;
}

/** Texts that run at the same time when nobody says how many. */
export const DEFAULT_SEQUENCES = 16;
/** A cache that nobody sized is no larger than this, unless one context is. Blocks take memory when first written. */
const DEFAULT_BYTES = 2 ** 30;

/** Bytes of the keys and values of one position, binary32. */
export function positionByteLength({ cacheLayers, keyWidth, valueWidth }: Program): number {
  return 4 * cacheLayers * (keyWidth + valueWidth);
}

/** What the scheduler of a program is told. */
export function scheduleOf(program: Program, options: RunningOptions): SchedulerOptions {
  const { maxSequences = DEFAULT_SEQUENCES, promptRows, keepCache, paging } = options;
  return {
    cachePositions: cachePositions(program, options, maxSequences),
    maxSequences,
    reusePrefixes: paging !== undefined && paging.prefixReuse !== false,
    ...(promptRows !== undefined && { promptRows }),
    ...(keepCache !== undefined && { keepCache }),
  };
}

function cachePositions(program: Program, options: RunningOptions, sequences: number): number {
  const { paging, contextLength = program.contextLength } = options;
  // One block more than a context: the last one is not full when texts share it.
  const oneContext = Math.min(contextLength, program.contextLength) + CACHE_BLOCK;
  if (!paging) return oneContext;
  if (paging.blocks !== undefined) return paging.blocks * CACHE_BLOCK;
  if (paging.contextLength !== undefined) return paging.contextLength;
  const blockBytes = CACHE_BLOCK * positionByteLength(program);
  if (paging.byteLength !== undefined) return Math.floor(paging.byteLength / blockBytes) * CACHE_BLOCK;
  const affordable = Math.floor(DEFAULT_BYTES / blockBytes) * CACHE_BLOCK;
  return Math.max(oneContext, Math.min(sequences * oneContext, affordable));
}

/** Throws `option/invalid` and `option/conflict`. */
export function checkPaging(options: PagedAttentionOptions): PagedAttentionOptions {
  const sizes = (["blocks", "contextLength", "byteLength"] as const).filter(
    (field) => options[field] !== undefined,
  );
  for (const field of sizes) checkCount(field, options[field]!);
  if (sizes.length > 1) {
    const message = `${sizes.join(" and ")} both say how large the cache is; leave one out`;
    throw new IsqError("option/conflict", message, { field: sizes[0], value: sizes });
  }
  if (options.blockSize !== undefined && options.blockSize !== CACHE_BLOCK) {
    const message = `cache blocks have ${CACHE_BLOCK} positions, not ${options.blockSize}`;
    throw new IsqError("option/unsupported", message, {
      field: "blockSize",
      value: options.blockSize,
      limit: CACHE_BLOCK,
    });
  }
  return options;
}

/** Throws `option/invalid` unless `value` is an integer from 1 to `limit`. */
export function checkCount(field: string, value: number, limit: number = LIMITS.safeInteger): number {
  if (Number.isSafeInteger(value) && value >= 1 && value <= limit) return value;
  throw new IsqError("option/invalid", `${field} must be an integer from 1 to ${limit}, not ${value}`, {
    field,
    value,
    limit,
  });
}
