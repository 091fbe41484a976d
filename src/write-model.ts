/**
 * Writing models to files: GGUF or safetensors, a file each, or a set of them in GGUF or UQFF; the name of the output says which.
 * Complete files only, and the same bytes every time.
 */

import type { Backend } from "./backends/backend.js";
import { IsqError } from "./errors.js";
import { openGguf } from "./files/gguf.js";
import type { GgufMetadata } from "./files/gguf-values.js";
import { openSafetensors } from "./files/safetensors.js";
import { readRange } from "./files/source.js";
import { storedName } from "./files/uqff.js";
import { planGgufSave } from "./gguf-export.js";
import { shareHead } from "./gguf-head.js";
import { type OpenedModel, openTokenizerOf } from "./load.js";
import { tokenizerKeys } from "./model/gguf/tokenizer-write.js";
import { type Plan, type PlanRequest, plan } from "./plan.js";
import { describeProvenance, hashSources, type Provenance, provenanceTexts } from "./provenance.js";
import { parseType } from "./quants/tensor.js";
import { formatReceipt, makeReceipt, RECEIPT_START } from "./receipt.js";
import { placesOf } from "./receipt-places.js";
import { planSafetensorsSave } from "./safetensors-export.js";
import { type SaveFile, saveModel, savePeakByteLength } from "./save.js";
import { planUqff } from "./uqff-export.js";
import { type DescribedJob, ggufOptionsOf, writeGgufShards } from "./write-gguf-shards.js";
import {
  hashFixed,
  receiptPath,
  type WriteJob,
  type WriteOptions,
  type WriteReport,
  withFile,
} from "./write-output.js";
import { writeUqff } from "./write-uqff.js";

export type { WriteJob, WriteOptions, WriteReport } from "./write-output.js";

export const SAVE_FORMATS = ["gguf", "safetensors", "uqff"] as const;
export type SaveFormat = (typeof SAVE_FORMATS)[number];

/**
 * The format that a file's name asks for. Throws `option/invalid` listing the endings, and `option/conflict` for shards of a
 * format that is written as one file.
 */
export function saveFormatOf(path: string, shardByteLength?: number): SaveFormat {
  const found = SAVE_FORMATS.find((format) => path.toLowerCase().endsWith(`.${format}`));
  if (found === "safetensors" && shardByteLength !== undefined) {
    const details = { field: "shardByteLength", value: shardByteLength };
    throw new IsqError(
      "option/conflict",
      `${path} is one file: GGUF and UQFF are written in shards`,
      details,
    );
  }
  if (found) return found;
  const limit = SAVE_FORMATS.map((format) => `.${format}`);
  const message = `the name of the output must end with ${limit.join(" or ")}, and is ${JSON.stringify(path)}`;
  throw new IsqError("option/invalid", message, { field: "output", value: path, limit });
}

/**
 * What is to be written where. Of several types, each puts its name before the ending of the path. Throws `type/unknown`,
 * `option/invalid` for a type that comes twice, and as plan.
 */
export function planOutputs(
  { program, sourceOf, config }: OpenedModel,
  request: PlanRequest,
  path: string,
  names: readonly (string | null)[],
): WriteJob[] {
  const format = saveFormatOf(path);
  const types = names.map((name) => (name === null ? null : parseType(name)));
  const twice = types.find((type, i) => types.indexOf(type) < i);
  if (twice !== undefined) {
    throw new IsqError("option/invalid", `the type ${twice} comes twice`, { field: "isq", value: names });
  }
  const stem = path.slice(0, -format.length - 1);
  return types.map((type) => {
    const own = type === null || types.length === 1 ? path : `${stem}-${storedName(type)}.${format}`;
    const decided = plan(program, sourceOf, { ...request, type });
    return { path: own, plan: format === "gguf" ? shareHead(decided, config, request) : decided };
  });
}

/** What a GGUF file says of a model's tokenizer, where it has one in a folder. Throws `tokenizer/invalid`. */
export async function readTokenizerKeys(opened: OpenedModel): Promise<GgufMetadata | undefined> {
  const { tokenizerDirectory, directory, config, program } = opened;
  if (!(await (tokenizerDirectory ?? directory).has("tokenizer.json"))) return undefined;
  const tokenizer = await openTokenizerOf(opened);
  return tokenizerKeys(tokenizer, program.vocabulary, config.endTokens);
}

/** Lays out the file of a plan; a source's own tokenizer comes before `tokenizer`. Throws as planGgufSave and planSafetensorsSave. */
export function planFile(
  format: "gguf" | "safetensors",
  { config, gguf }: OpenedModel,
  plan: Plan,
  provenance: Provenance = {},
  tokenizer?: GgufMetadata,
): SaveFile {
  if (format === "safetensors") {
    return planSafetensorsSave(plan, { format: "pt", ...provenanceTexts(provenance) });
  }
  return planGgufSave(config, plan, ggufOptionsOf(gguf, provenance, tokenizer));
}

/** Bytes of an output, and of the tensors in memory at the worst moment of writing it. Throws as the layouts do. */
export function measureOutput(
  opened: OpenedModel,
  { plan, path }: WriteJob,
  tokenizer?: GgufMetadata,
): { byteLength: number; peakByteLength: number } {
  const format = saveFormatOf(path);
  const files: SaveFile[] = [];
  if (format === "uqff") {
    const { shards, residual } = planUqff(plan, { stem: "model" });
    files.push(...shards.map(({ file }) => file), residual.file);
  } else files.push(planFile(format, opened, plan, {}, tokenizer));
  return {
    byteLength: files.reduce((sum, file) => sum + file.byteLength, 0),
    peakByteLength: Math.max(...files.map((file) => savePeakByteLength(file, plan))),
  };
}

/**
 * Executes plans into files of a runtime that has files; several plans of one model, all of one format. A file appears when
 * it is complete; an interrupted run leaves `FILE.partial` and its journal, and the next one goes on from there. Throws
 * `option/invalid`, `output/*`, and as saveModel.
 */
export async function writeModels(
  opened: OpenedModel,
  jobs: readonly WriteJob[],
  backend: Backend,
  options: WriteOptions = {},
): Promise<WriteReport[]> {
  const formats = jobs.map(({ path }) => saveFormatOf(path, options.shardByteLength));
  const { algorithm = "default", importance, signal, receipt, overwrite = false } = options;
  if (typeof receipt === "string" && jobs.length > 1) {
    const message = `one receipt, ${receipt}, cannot be about ${jobs.length} outputs; leave its name out`;
    throw new IsqError("option/conflict", message, { field: "receipt", value: receipt });
  }
  for (const { path } of jobs) await checkReceipt(receiptPath(path, receipt), path, overwrite);
  const tokenizer = formats[0] === "gguf" ? await readTokenizerKeys(opened) : undefined;
  for (const job of jobs) measureOutput(opened, job, tokenizer); // refuses before hashing takes its time
  const sources = await hashSources(opened.checkpoint, signal);
  const described = [];
  for (const job of jobs) {
    const provenance = await describeProvenance(job.plan, { algorithm, importance, sources });
    described.push({ ...job, provenance });
  }
  if (formats[0] === "uqff") return writeUqff(opened, described, backend, options);
  const isSet = options.shardByteLength !== undefined;
  const reports: WriteReport[] = [];
  for (const job of described) {
    const own = { ...job, tokenizer };
    reports.push(await (isSet ? writeGgufShards : writeFile)(opened, own, backend, options));
  }
  return reports;
}

async function writeFile(
  opened: OpenedModel,
  { plan, path, provenance, tokenizer }: DescribedJob,
  backend: Backend,
  { overwrite = false, restart = false, receipt: wanted, ...options }: WriteOptions,
): Promise<WriteReport> {
  const { openPartialFile, writeSmallFile } = await import("#platform");
  const { checkpoint } = opened;
  const format = saveFormatOf(path) as "gguf" | "safetensors";
  const receipt = receiptPath(path, wanted);
  const file = planFile(format, opened, plan, provenance, tokenizer);
  const fingerprint = { ...provenance, byteLength: file.byteLength, header: await hashFixed(file) };
  const inputs = checkpoint.sources.flatMap((source) => source.path ?? []);
  const partial = await openPartialFile(path, file, { fingerprint, inputs, overwrite, restart });
  try {
    const report = await saveModel(file, plan, checkpoint, backend, partial, options);
    const resumedTensors = file.targets.size - report.tensors.length;
    await partial.commit((written) =>
      withFile(written, async (source) => {
        await (format === "gguf" ? openGguf(source) : openSafetensors(source));
        if (receipt === undefined) return;
        const places = placesOf(opened, plan, file);
        const output = { ...source, name: path }; // not the partial file's name
        const made = await makeReceipt({ ...options, plan, checkpoint, output, places });
        await writeSmallFile(receipt, formatReceipt(made));
      }),
    );
    const written = { path, byteLength: file.byteLength, resumedTensors, ...(receipt && { receipt }) };
    return { ...report, ...written };
  } finally {
    await partial.close();
  }
}

/**
 * A receipt may replace that of an interrupted run, and nothing else. Throws `output/exists`, `option/conflict`.
 */
async function checkReceipt(receipt: string | undefined, output: string, overwrite: boolean): Promise<void> {
  if (receipt === undefined) return;
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
