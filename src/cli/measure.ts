/** What commands that measure have in common: several types one after the other, and a table, JSON or a page. */

import type { Command } from "commander";
import type { Backend } from "../backends/backend.js";
import { openBackend } from "../backends/open.js";
import { importanceOfCollected } from "../calibrate.js";
import type { ChunkOptions } from "../chunks.js";
import type { Importance } from "../importance.js";
import { nameOfInput, readTextInput } from "../inputs.js";
import { exp64 } from "../math.js";
import type { MeasureOptions } from "../measure.js";
import { writeSmallFile } from "../node/small-file.js";
import type { Plan } from "../plan.js";
import type { IsqType } from "../quants/table.js";
import { describeBackend } from "../report/load-text.js";
import { describeMeasured, type Measured, type Version } from "../report/quality.js";
import type { TextModel } from "../run.js";
import type { TextModelBuilder } from "../text-model-builder.js";
import { createWorkProgress, withInterrupt } from "./build.js";
import {
  addRuntimeOptions,
  addTypesOptions,
  type BuildOptions,
  createBuilder,
  parseCount,
  type RuntimeOptions,
} from "./options.js";

export interface OutputFlags {
  readonly json?: boolean;
  readonly html?: string;
}

export type TypesFlags = Omit<BuildOptions, "isq"> & RuntimeOptions & { readonly isq?: readonly IsqType[] };

export interface TextFlags {
  readonly file: string;
  readonly chunkTokens: number;
  readonly stride?: number;
  readonly chunks?: number;
}

/** Adds the options of quantization, with several types, and of where to work. */
export function addVersionOptions(command: Command): Command {
  return addRuntimeOptions(addTypesOptions(command));
}

/** Adds `--file` and how it is cut. */
export function addTextOptions(
  command: Command,
  defaults: { readonly chunkTokens: number; readonly chunks?: number } = { chunkTokens: 1024 },
): Command {
  return command
    .requiredOption("-f, --file <text>", "UTF-8 text")
    .option(
      "--chunk-tokens <count>",
      "tokens per chunk, the BOS not counted",
      parseCount(2),
      defaults.chunkTokens,
    )
    .option(
      "--stride <count>",
      "tokens from one chunk to the next; below --chunk-tokens chunks overlap, and each token counts once",
      parseCount(1),
    )
    .option("--chunks <count>", "measure only the first chunks", parseCount(1), defaults.chunks);
}

export function addOutputOptions(command: Command): Command {
  return command
    .option("--json", "print the results as JSON")
    .option("--html <file>", "write a page with tables and plots");
}

/** A backend and a model on it, as often as it takes. */
export interface Measuring {
  readonly backend: Backend;
  readonly signal: AbortSignal;
  /** Collected once, where a calibration file was given. */
  readonly importance: Importance | undefined;
  /** A builder with all options, for one type; null: the model as its files have it. */
  createBuilder(type: IsqType | undefined | null): TextModelBuilder;
  /** Builds it with a progress bar, runs `use`, and disposes the model. */
  withModel<Result>(
    type: IsqType | undefined | null,
    use: (model: TextModel) => Promise<Result>,
  ): Promise<Result>;
}

/** Opens a backend that all models of one command share. */
export function withMeasuring<Result>(
  flags: TypesFlags,
  work: (measuring: Measuring) => Promise<Result>,
): Promise<Result> {
  return withInterrupt(async (signal) => {
    const {
      backend: choice,
      threads,
      device,
      isq: _,
      topology,
      imatrix,
      calibrationFile,
      strict,
      ...rest
    } = flags;
    const text = calibrationFile === undefined ? undefined : await readTextInput(calibrationFile);
    const backend = await openBackend(choice, {
      ...(threads !== undefined && { workers: threads }),
      ...(device !== undefined && { device }),
    });
    const quantization = {
      ...(topology !== undefined && { topology }),
      ...(imatrix !== undefined && { imatrix }),
      ...(strict !== undefined && { strict }),
    };
    const measuring: Measuring = {
      backend,
      signal,
      importance: undefined,
      createBuilder(type) {
        const builder = createBuilder({
          ...rest,
          ...(type !== null && quantization),
          ...(type && { isq: type }),
        });
        if (type !== null && this.importance) builder.withImportance(this.importance);
        return builder.withBackend(backend);
      },
      async withModel(type, use) {
        const { end, ...progress } = createWorkProgress(type === null ? "loading" : "quantizing");
        const model = await this.createBuilder(type)
          .build({ signal, ...progress })
          .finally(end);
        try {
          return await use(model);
        } finally {
          await model.dispose();
        }
      },
    };
    try {
      if (text === undefined) return await work(measuring);
      const { onCalibration, end } = createWorkProgress();
      const collect = (model: TextModel) =>
        model.collectImportance(text, { signal, onProgress: onCalibration });
      const collected = await measuring.withModel(null, collect).finally(end);
      return await work({ ...measuring, importance: importanceOfCollected(collected) });
    } finally {
      await backend.dispose();
    }
  });
}

/** How a text is cut, and how reports call what was measured on it. */
export function describeText(
  { file, chunkTokens, stride, chunks }: TextFlags,
  modelId: string,
  backend: Backend,
): { options: ChunkOptions; measured: Measured } {
  const strides = stride !== undefined && { stride };
  const options = { chunkTokens, ...strides, ...(chunks !== undefined && { maxChunks: chunks }) };
  const names = { model: modelId, text: nameOfInput(file), backend: describeBackend(backend) };
  return { options, measured: { ...names, chunkTokens, ...strides } };
}

/** What is measured: the types that were asked for, or what the topology alone says, or the unquantized model. */
export function versionsOf({ isq, topology }: TypesFlags): (IsqType | undefined | null)[] {
  if (isq) return [...isq];
  return [topology === undefined ? null : undefined];
}

export function versionOf(type: IsqType | undefined | null, { totals }: Plan): Version {
  const { bitsPerWeight, byteLength } = totals;
  return { type: type === null ? "unquantized" : (type ?? "topology"), bitsPerWeight, byteLength };
}

/** Tells of chunks on standard error. */
export function chunkProgress(signal: AbortSignal): MeasureOptions {
  return {
    signal,
    onProgress: (done, total, { predictions, nll }) =>
      process.stderr.write(
        `chunk ${done}/${total} (${predictions} tokens): perplexity ${exp64(nll).toFixed(4)}\n`,
      ),
  };
}

/** Prints the table or JSON, and writes the page where one was asked for. */
export async function writeResults<Results extends object>(
  { json, html }: OutputFlags,
  measured: Measured,
  results: Results,
  { text, page }: { readonly text: () => string; readonly page: () => string },
): Promise<void> {
  if (html !== undefined) await writeSmallFile(html, page());
  process.stdout.write(
    json
      ? `${JSON.stringify({ ...measured, ...results }, null, 2)}\n`
      : `${describeMeasured(measured)}\n\n${text()}\n`,
  );
}
