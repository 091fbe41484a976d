/** Writing a model to a file: GGUF or safetensors, by the file's name. Complete files only, and the same bytes every time. */

import type { Backend } from "./backends/backend.js";
import { IsqError } from "./errors.js";
import { openGguf } from "./files/gguf.js";
import type { GgufMetadata } from "./files/gguf-values.js";
import { openSafetensors } from "./files/safetensors.js";
import { readRange } from "./files/source.js";
import { planGgufSave } from "./gguf-export.js";
import type { OpenedModel } from "./load.js";
import type { AlgorithmChoice, Plan } from "./plan.js";
import { describeProvenance, type Provenance, provenanceKeys, provenanceTexts } from "./provenance.js";
import type { QuantizeReport } from "./quantize.js";
import { formatReceipt, makeReceipt, placesOf, RECEIPT_START } from "./receipt.js";
import { planSafetensorsSave } from "./safetensors-export.js";
import { type SaveFile, type SaveOptions, saveModel } from "./save.js";

export const SAVE_FORMATS = ["gguf", "safetensors"] as const;
export type SaveFormat = (typeof SAVE_FORMATS)[number];

export interface WriteOptions extends SaveOptions {
  readonly algorithm?: AlgorithmChoice;
  /** Replace a file that is there. */
  readonly overwrite?: boolean;
  /** Forget what an earlier, interrupted run has written. */
  readonly restart?: boolean;
  /** Where to write the file's receipt; see receipt.ts. It is there before the file is. */
  readonly receipt?: string;
}

export interface WriteReport extends QuantizeReport {
  readonly path: string;
  readonly byteLength: number;
  /** Tensors that were there from an interrupted run. */
  readonly resumedTensors: number;
}

/** The format that a file's name asks for. Throws `option/invalid` listing the endings. */
export function saveFormatOf(path: string): SaveFormat {
  const found = SAVE_FORMATS.find((format) => path.toLowerCase().endsWith(`.${format}`));
  if (found) return found;
  const limit = SAVE_FORMATS.map((format) => `.${format}`);
  const message = `the name of the output must end with ${limit.join(" or ")}, and is ${JSON.stringify(path)}`;
  throw new IsqError("option/invalid", message, { field: "output", value: path, limit });
}

/** Lays out the file of a plan. Throws as planGgufSave and planSafetensorsSave. */
export function planFile(
  format: SaveFormat,
  { config, gguf }: OpenedModel,
  plan: Plan,
  provenance: Provenance = {},
): SaveFile {
  if (format === "safetensors") {
    return planSafetensorsSave(plan, { format: "pt", ...provenanceTexts(provenance) });
  }
  const kept = new Map([...(gguf?.files.metadata ?? [])].filter(([key]) => !REPLACED.test(key)));
  const further: GgufMetadata = new Map([...provenanceKeys(provenance), ...kept]);
  const hasTokenizer = kept.has("tokenizer.ggml.model");
  return planGgufSave(config, plan, { further, ...(hasTokenizer && { tokenizer: new Map() }) });
}

/** Keys of a source file that say how it was split, aligned or quantized. */
const REPLACED = /^(split|quantize|isq)\.|^general\.(alignment|file_type|quantization_version)$/;

/**
 * Executes a plan into a file of a runtime that has files. The file appears when it is complete; an interrupted run leaves
 * `FILE.partial` and its journal, and the next one goes on from there. Throws `option/invalid`, `output/*`, and as saveModel.
 */
export async function writeModel(
  opened: OpenedModel,
  plan: Plan,
  path: string,
  backend: Backend,
  { algorithm = "default", overwrite = false, restart = false, receipt, ...options }: WriteOptions = {},
): Promise<WriteReport> {
  const { openFile, openHasher, openPartialFile, writeSmallFile } = await import("#platform");
  const { checkpoint } = opened;
  const format = saveFormatOf(path);
  if (receipt !== undefined) await checkReceiptPlace(receipt, path, overwrite);
  planFile(format, opened, plan); // refuses before hashing takes its time
  const provenance = await describeProvenance(
    plan,
    checkpoint,
    algorithm,
    options.importance,
    options.signal,
  );
  const file = planFile(format, opened, plan, provenance);
  const hasher = openHasher();
  for (const { bytes } of file.fixed) hasher.update(bytes);
  const fingerprint = { ...provenance, byteLength: file.byteLength, header: hasher.finish() };
  const inputs = checkpoint.sources.flatMap((source) => source.path ?? []);
  const partial = await openPartialFile(path, file, { fingerprint, inputs, overwrite, restart });
  try {
    const report = await saveModel(file, plan, checkpoint, backend, partial, options);
    const resumedTensors = file.targets.size - report.tensors.length;
    await partial.commit(async (written) => {
      const source = await openFile(written);
      try {
        await (format === "gguf" ? openGguf(source) : openSafetensors(source));
        if (receipt === undefined) return;
        const places = placesOf(opened, plan, file);
        const output = { ...source, name: path }; // not the partial file's name
        const made = await makeReceipt({ ...options, plan, checkpoint, output, places });
        await writeSmallFile(receipt, formatReceipt(made));
      } finally {
        await source.close?.();
      }
    });
    return { ...report, path, byteLength: file.byteLength, resumedTensors };
  } finally {
    await partial.close();
  }
}

/** A receipt may replace that of an interrupted run, and nothing else. Throws `output/exists`, `option/conflict`. */
async function checkReceiptPlace(receipt: string, output: string, overwrite: boolean): Promise<void> {
  const details = { file: receipt, field: "receipt", value: receipt };
  if (receipt === output) throw new IsqError("option/conflict", `${receipt} is the output itself`, details);
  const { openFile } = await import("#platform");
  const there = overwrite ? null : await openFile(receipt).catch(() => null);
  if (!there) return;
  try {
    const start = await readRange(there, 0, Math.min(RECEIPT_START.length, there.byteLength));
    if (new TextDecoder().decode(start) === RECEIPT_START) return;
  } finally {
    await there.close?.();
  }
  const message = `${receipt} is there already and no receipt; choose another name or replace it (--force)`;
  throw new IsqError("output/exists", message, details);
}
