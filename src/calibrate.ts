/** Calibration: text runs through a model, and what goes into each of its linears becomes an importance matrix. */

import type { Observation } from "./backends/observe.js";
import type { Program } from "./backends/program.js";
import { type ChunkOptions, chunkTokens as cutIntoChunks } from "./chunks.js";
import { checkAborted, IsqError } from "./errors.js";
import {
  type ImatrixEntry,
  meansOf,
  writeCimatrix,
  writeImatrixGguf,
  writeLegacyImatrix,
} from "./files/imatrix.js";
import { type Importance, joinEntries } from "./importance.js";
import type { LanguageModel } from "./model/language-model.js";
import type { Tokenizer } from "./model/tokenizer.js";
import { COLLECTED_ROLES } from "./plan.js";
import { rowElements } from "./quants/tensor.js";

/** An importance matrix that was collected here. */
export interface CollectedImportance {
  /** By weight: sums of squares for each column, rounded to binary32, and the number of rows. */
  readonly entries: ReadonlyMap<string, ImatrixEntry>;
  /** Names of the texts. */
  readonly datasets: readonly string[];
  /** Pieces of text and tokens of each without what is put in front; 0 for live texts. */
  readonly chunks: number;
  readonly chunkTokens: number;
}

/** How far collecting is, in chunks of text. */
export interface CalibrationProgress {
  readonly done: number;
  readonly total: number;
  /** Tokens that ran through the model so far. */
  readonly tokens: number;
  readonly seconds: number;
}

/** How a text is cut up and reported while importance is collected from it. */
export interface CollectOptions extends Pick<ChunkOptions, "chunkTokens" | "maxChunks"> {
  /** Name of the text, to be written into files. */
  readonly dataset?: string;
  /** What is to be written: weights without a name there are refused before any text runs. */
  readonly format?: WritableImatrixFormat;
  readonly signal?: AbortSignal;
  /** Called after every chunk. */
  readonly onProgress?: (progress: CalibrationProgress) => void;
}

/** Tokens of a chunk, as in mistral.rs. */
const CHUNK_TOKENS = 1024;

/** As {@link collectImportance}, of chunks of a text: 1024 tokens, or what the model holds, and the BOS in front of each. */
export function collectFromText(
  language: LanguageModel,
  tokenizer: Pick<Tokenizer, "encode" | "beginToken">,
  text: string,
  options: CollectOptions = {},
): Promise<CollectedImportance> {
  if (options.format !== undefined) checkNames(language.program, options.format);
  const room = language.longestText - (tokenizer.beginToken === null ? 0 : 1);
  const chunkTokens = options.chunkTokens ?? Math.min(CHUNK_TOKENS, room);
  const { maxChunks } = options;
  const ids = tokenizer.encode(text, { addSpecialTokens: false });
  const cut = cutIntoChunks(ids, tokenizer.beginToken, {
    chunkTokens,
    ...(maxChunks !== undefined && { maxChunks }),
  });
  return collectImportance(
    language,
    cut.map(({ tokens }) => tokens),
    chunkTokens,
    options,
  );
}

/**
 * Runs chunks through a model, each from an empty context, and returns what went into its linears. Other texts that run
 * meanwhile are counted too. Throws `option/unsupported` when the backend cannot observe, `prompt/*`, `aborted`.
 */
export async function collectImportance(
  language: LanguageModel,
  chunks: readonly (readonly number[])[],
  chunkTokens: number,
  { dataset, signal, onProgress }: CollectOptions = {},
): Promise<CollectedImportance> {
  const observation = await beginObserving(language);
  const started = performance.now();
  let tokens = 0;
  try {
    for (const [index, chunk] of chunks.entries()) {
      checkAborted(signal);
      await language.visitLogits(chunk, () => {}, signal ? { signal } : {});
      tokens += chunk.length;
      const seconds = (performance.now() - started) / 1000;
      onProgress?.({ done: index + 1, total: chunks.length, tokens, seconds });
    }
  } finally {
    await endObserving(language);
  }
  const datasets = dataset === undefined ? [] : [dataset];
  return { entries: entriesOf(observation, language.program), datasets, chunks: chunks.length, chunkTokens };
}

/** Throws `tensor/missing` for a weight that has no name in a form. */
function checkNames(program: Program, format: WritableImatrixFormat): void {
  const entries = program.weights.flatMap(({ name, role, shape }): [string, ImatrixEntry][] =>
    COLLECTED_ROLES.includes(role)
      ? [[name, { sums: new Float32Array(rowElements(shape)), counts: [0] }]]
      : [],
  );
  joinEntries(new Map(entries), program, format === "cimatrix" ? "cimatrix" : "gguf");
}

/** Throws `option/unsupported`. */
export function beginObserving(language: LanguageModel): Promise<Observation> {
  return language.between(async (session) => {
    const observation = await session.observe?.(true);
    if (observation) return observation;
    const message =
      "this backend cannot observe what goes into weights; collect on reference, wasm or threads";
    throw new IsqError("option/unsupported", message, { field: "backend" });
  });
}

export async function endObserving(language: LanguageModel): Promise<void> {
  await language.between((session) => session.observe?.(false));
}

/** What was observed of every weight that may be quantized and saw any row. */
export function entriesOf(observation: Observation, { weights }: Program): Map<string, ImatrixEntry> {
  const entries = new Map<string, ImatrixEntry>();
  for (const [weight, input] of observation.entries()) {
    const { name, role } = weights[weight];
    if (!input || input.rows[0] === 0 || !COLLECTED_ROLES.includes(role)) continue;
    entries.set(name, { sums: Float32Array.from(input.squares), counts: [input.rows[0]] });
  }
  return entries;
}

/** Means of squares by weight. They are the same numbers after writing and reading a file of any form. */
export function importanceOfCollected({ entries }: CollectedImportance): Importance {
  return new Map([...entries].map(([name, entry]) => [name, meansOf(entry)]));
}

/** Forms that can be written, by the ending of the file's name. */
export const IMATRIX_ENDINGS = {
  ".cimatrix": "cimatrix",
  ".gguf": "gguf",
  ".imatrix": "legacy",
  ".dat": "legacy",
} as const;

/** Formats that importance is written in. */
export type WritableImatrixFormat = (typeof IMATRIX_ENDINGS)[keyof typeof IMATRIX_ENDINGS];

/** The form that a file's name asks for. Throws `option/invalid` listing the endings. */
export function imatrixFormatOf(path: string): WritableImatrixFormat {
  const found = Object.entries(IMATRIX_ENDINGS).find(([ending]) => path.toLowerCase().endsWith(ending));
  if (found) return found[1];
  const limit = Object.keys(IMATRIX_ENDINGS);
  const message = `the name of an importance matrix must end with ${limit.join(" or ")}, and is ${JSON.stringify(path)}`;
  throw new IsqError("option/invalid", message, { field: "output", value: path, limit });
}

/**
 * A file of an importance matrix. GGUF has sums and counts, the others have means: `legacy` as of one call, so that they are
 * read back exactly. Throws `tensor/missing` for a weight that has no name in GGUF.
 */
export async function encodeImatrix(
  { entries, ...about }: CollectedImportance,
  program: Program,
  format: WritableImatrixFormat,
): Promise<Uint8Array> {
  if (format === "cimatrix") return writeCimatrix(joinEntries(entries, program, "cimatrix"));
  const named = { ...about, entries: joinEntries(entries, program, "gguf") };
  return format === "gguf" ? writeImatrixGguf(named) : writeLegacyImatrix(named);
}
