/** Options that several sub-commands share, defined once: parser, help and documentation read them here. */

import { readFile } from "node:fs/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import {
  BACKEND_CHOICES,
  type BackendChoice,
  type DeviceChoice,
  parseDeviceChoice,
} from "../backends/open.js";
import { IsqError, isIsqError } from "../errors.js";
import { ARCHITECTURE_NAMES } from "../model/architectures/index.js";
import { ALGORITHM_CHOICES, type AlgorithmChoice } from "../plan.js";
import { ORGANIZATIONS, type Organization } from "../plan-rules.js";
import { type IsqType, TYPE_NAMES } from "../quants/table.js";
import { parseType } from "../quants/tensor.js";
import { TextModelBuilder } from "../text-model-builder.js";

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

/** What the `plain` model form parses to. */
export interface PlainOptions {
  readonly modelId: string;
  readonly arch?: string;
  readonly fromUqff?: string;
  readonly writeUqff?: string;
}

/** Adds `--isq` and what decides which tensors get which type. */
export function addQuantizationOptions(command: Command): Command {
  const help = `quantize in situ to one of ${TYPE_NAMES.join(" ")}`;
  return addEncodingOptions(command.addOption(new Option("--isq <type>", help).argParser(parseTypeName)));
}

/** As {@link addQuantizationOptions}, with a list of types. */
export function addTypesOptions(command: Command): Command {
  const help = `the type or types, separated by commas: ${TYPE_NAMES.join(" ")}`;
  const parse = (value: string) => value.split(",").map((name) => parseTypeName(name.trim()));
  return addEncodingOptions(command.addOption(new Option("--isq <types>", help).argParser(parse)));
}

function addEncodingOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--algorithm <name>", "encoder lineage").choices([...ALGORITHM_CHOICES]).default("default"),
    )
    .option("--topology <file>", "YAML rules for single layers and tensors: a type or none, a device")
    .option("--imatrix <file>", "importance: .imatrix or GGUF of llama.cpp, .cimatrix of mistral.rs")
    .option(
      "--calibration-file <text>",
      "collect importance from this text with the unquantized model, and quantize with it",
    )
    .addOption(
      new Option("--organization <name>", "what is quantized: default, or moqe for routed experts only")
        .choices([...ORGANIZATIONS])
        .default("default"),
    )
    .option("--strict", "refuse fallback types, skipped tensors and dropped importance");
}

function parseTypeName(value: string): IsqType {
  try {
    return parseType(value);
  } catch (error) {
    if (isIsqError(error)) throw new InvalidArgumentError(error.message);
    throw error;
  }
}

/** Adds `--backend`, `--threads` and `--device`. */
export function addRuntimeOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--backend <name>", "where to work; auto takes the fastest that runs here")
        .choices([...BACKEND_CHOICES])
        .default("auto"),
    )
    .option("--threads <count>", "worker threads; as many as processors when left out", parseCount(1))
    .addOption(
      new Option(
        "--device <name>",
        "auto (a GPU if there is one), cpu, webgpu or webgpu[N]; cpu when left out",
      ).argParser(parseDeviceName),
    );
}

function parseDeviceName(value: string): DeviceChoice {
  try {
    return parseDeviceChoice(value);
  } catch (error) {
    if (isIsqError(error)) throw new InvalidArgumentError(error.message);
    throw error;
  }
}

/** Adds the model form `plain -m DIR [-a ARCH]` under a command and runs `action` with all options of both levels. */
export function addModelForm<Options extends PlainOptions>(
  command: Command,
  action: (options: Options) => Promise<void>,
): void {
  const plain = command
    .command("plain")
    .description("a folder with config.json, tokenizer.json and safetensors files");
  addModelOptions(plain)
    .option("-w, --write-uqff <file>", "also save the quantized model: NAME.uqff")
    .action((_own, form: Command) => action(form.optsWithGlobals() as Options));
}

/** As {@link addModelForm}, with a builder for the chosen model. */
export function addModelForms<Own extends object>(
  command: Command,
  action: (builder: TextModelBuilder, options: Own & BuildOptions) => Promise<void>,
): void {
  addModelForm<Own & BuildOptions>(command, (options) => action(createBuilder(options), options));
}

/** Adds `-m`, `-a` and `--from-uqff`. */
export function addModelOptions(command: Command): Command {
  return command
    .requiredOption("-m, --model-id <path>", "the model's folder, or a GGUF or UQFF file")
    .option(
      "--from-uqff <files>",
      "UQFF files of the folder with the weights: the first shard, or q4k for q4k-0.uqff",
    )
    .option(
      "-a, --arch <name>",
      `architecture (config.json says when left out): ${ARCHITECTURE_NAMES.join(" ")}`,
    );
}

export type BuildOptions = QuantizationOptions & PlainOptions & Partial<RuntimeOptions>;

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
  if (options.device !== undefined) builder.withDevice(options.device);
  return builder;
}

/** Parses a whole number of at least `least`. */
export function parseCount(least: number): (value: string) => number {
  return (value) => {
    const count = Number(value);
    if (/^\d+$/.test(value) && Number.isSafeInteger(count) && count >= least) return count;
    throw new InvalidArgumentError(`it must be a whole number from ${least}.`);
  };
}

/** Parses a finite number of at least 0. */
export function parseNumber(value: string): number {
  const number = Number(value);
  if (value.trim() !== "" && Number.isFinite(number) && number >= 0) return number;
  throw new InvalidArgumentError("it must be a number from 0.");
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
