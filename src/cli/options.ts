/** Groups of flags that commands have, and the builder that they describe. The flags themselves are in flags.ts. */

import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { type BackendChoice, checkDeviceOptions, type DeviceChoice } from "../backends/open.js";
import { IsqError } from "../errors.js";
import type { DeviceLayers } from "../model/device-layers.js";
import type { AlgorithmChoice } from "../plan.js";
import type { Organization } from "../plan-rules.js";
import { TextModelBuilder } from "../text-model-builder.js";
import { addFlags, createFlag } from "./flags.js";

export { createFlag, parseCount, parseNumber, parseShare } from "./flags.js";
export { addModelForm, addModelForms } from "./forms.js";

/** What the quantization options parse to. */
export interface QuantizationOptions {
  readonly isq?: string;
  readonly algorithm: AlgorithmChoice;
  readonly strict?: boolean;
  readonly topology?: string;
  readonly imatrix?: string;
  readonly calibrationFile?: string;
  readonly organization?: Organization;
}

/** What the options about where a model runs parse to. */
export interface RuntimeOptions {
  readonly backend: BackendChoice;
  readonly threads?: number;
  readonly device?: DeviceChoice;
}

/** What a model form parses to. */
export interface PlainOptions {
  readonly modelId: string;
  readonly arch?: string;
  readonly fromUqff?: string;
  readonly writeUqff?: string;
  readonly tokenizerJson?: string;
  readonly tokModelId?: string;
}

/** What the options about running texts parse to. */
export interface TextOptions {
  readonly maxSeqs: number;
  readonly noKvCache?: boolean;
  readonly prefixCacheN: number;
  readonly promptBatchsize?: number;
  readonly numDeviceLayers?: readonly DeviceLayers[];
  readonly chatTemplate?: string;
  readonly noPagedAttn?: boolean;
  readonly paGpuMem?: number;
  readonly paGpuMemUsage?: number;
  readonly paCtxtLen?: number;
}

const ENCODING = ["algorithm", "topology", "imatrix", "calibrationFile", "organization", "strict"] as const;

/** Adds `--isq` and what decides which tensors get which type. */
export function addQuantizationOptions(command: Command): Command {
  return addFlags(command, ["isq", ...ENCODING]);
}

/** As {@link addQuantizationOptions}, with a list of types. */
export function addTypesOptions(command: Command): Command {
  return addFlags(command, ["isqTypes", ...ENCODING]);
}

/** Adds `--backend`, `--threads` and `--device`. */
export function addRuntimeOptions(command: Command): Command {
  return addFlags(command, ["backend", "threads", "device"]);
}

/** Adds what decides how texts run; `-n` and `-c` as mistral.rs has them, where the command does not use the letters. */
export function addTextOptions(command: Command, letters: { n?: boolean; c?: boolean } = {}): Command {
  return addFlags(command, [
    letters.n ? ["numDeviceLayers", "n"] : "numDeviceLayers",
    "maxSeqs",
    "promptBatchsize",
    "noKvCache",
    "prefixCacheN",
    letters.c ? ["chatTemplate", "c"] : "chatTemplate",
    "tokenSource",
    "pagedAttn",
    "noPagedAttn",
    "paGpuMem",
    "paGpuMemUsage",
    "paCtxtLen",
    "paBlkSize",
  ]);
}

/** Adds `-m`, `-a` and `--from-uqff`, with the letter that mistral.rs has for it where it is free. */
export function addModelOptions(command: Command, letters: { f?: boolean } = {}): Command {
  command.addOption(createFlag("modelId", { short: "m", mandatory: true }));
  return addFlags(command, [letters.f ? ["fromUqff", "f"] : "fromUqff", ["arch", "a"]]);
}

export type BuildOptions = QuantizationOptions & PlainOptions & Partial<RuntimeOptions & TextOptions>;

/** Importance that steers nothing is a mistake. Throws `option/conflict`. */
export function checkImportanceUse({ isq, topology, imatrix, calibrationFile }: QuantizationOptions): void {
  if (isq !== undefined || topology !== undefined) return;
  const field = imatrix !== undefined ? "imatrix" : calibrationFile !== undefined ? "calibrationFile" : null;
  if (field === null) return;
  const message =
    "importance steers quantization, and nothing is quantized: name a type with --isq, or give --topology";
  throw new IsqError("option/conflict", message, { field });
}

/** A builder for the chosen model with all options. */
export function createBuilder(options: BuildOptions): TextModelBuilder {
  const builder = new TextModelBuilder(options.modelId).withAlgorithm(options.algorithm);
  if (options.organization !== undefined) builder.withOrganization(options.organization);
  if (options.isq !== undefined) builder.withIsq(options.isq);
  if (options.arch !== undefined) builder.withArchitecture(options.arch);
  if (options.fromUqff !== undefined) builder.fromUqff(options.fromUqff);
  if (options.writeUqff !== undefined) builder.writeUqff(options.writeUqff);
  if (options.topology !== undefined) builder.withTopologyFile(options.topology);
  if (options.imatrix !== undefined) builder.withImatrix(options.imatrix);
  if (options.calibrationFile !== undefined) builder.withCalibrationFile(options.calibrationFile);
  if (options.strict) builder.withStrict();
  if (options.backend !== undefined) builder.withBackend(options.backend);
  if (options.threads !== undefined) builder.withThreads(options.threads);
  if (options.device !== undefined) {
    const workers = options.threads !== undefined && { workers: options.threads };
    checkDeviceOptions(options.backend ?? "auto", { device: options.device, ...workers });
    builder.withDevice(options.device);
  }
  if (options.tokenizerJson !== undefined) builder.withTokenizerJson(options.tokenizerJson);
  if (options.tokModelId !== undefined) builder.withTokModelId(options.tokModelId);
  if (options.chatTemplate !== undefined) builder.withChatTemplate(options.chatTemplate);
  if (options.numDeviceLayers !== undefined) builder.withDeviceLayers(options.numDeviceLayers);
  if (options.maxSeqs !== undefined) configureTexts(builder, options);
  return builder;
}

function configureTexts(builder: TextModelBuilder, options: Partial<TextOptions>): void {
  const { maxSeqs, promptBatchsize, noKvCache, noPagedAttn, prefixCacheN } = options;
  builder.withMaxSequences(maxSeqs!);
  if (promptBatchsize !== undefined) builder.withPromptBatchSize(promptBatchsize);
  if (noKvCache) builder.withoutCache();
  else if (!noPagedAttn) {
    builder.withPagedAttention({ ...cacheSizeOf(options), prefixReuse: prefixCacheN !== 0 });
  }
}

function cacheSizeOf({ paGpuMem, paGpuMemUsage, paCtxtLen }: Partial<TextOptions>) {
  if (paCtxtLen !== undefined) return { contextLength: paCtxtLen };
  if (paGpuMem !== undefined) return { byteLength: paGpuMem * 2 ** 20 };
  if (paGpuMemUsage === undefined) return {};
  return { byteLength: Math.max(1, Math.floor(process.availableMemory() * paGpuMemUsage)) };
}

/** Reads a UTF-8 text file. Throws `source/open` naming the file and the reason. */
export async function readTextFile(path: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(path));
  } catch (cause) {
    const reason = cause instanceof TypeError ? "it is not UTF-8 text" : (cause as Error).message;
    throw new IsqError("source/open", `cannot read ${path}: ${reason}`, { file: path }, { cause });
  }
}
