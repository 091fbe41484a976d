/**
 * Model forms: the sub-commands `plain`, `gguf` and `toml` under a command say which model it is about. Flags of the command
 * may stand after the form as well, in their long form and, where the form has no such letter, in their short one.
 */

import { basename, join } from "node:path";
import { type Command, Option } from "commander";
import { IsqError } from "../errors.js";
import type { TextModelBuilder } from "../text-model-builder.js";
import { addFlags, createFlag } from "./flags.js";
import { addModelOptions, type BuildOptions, createBuilder, type PlainOptions } from "./options.js";

/** Flags that mistral.rs has at the form, with its letters. */
const FORM_LETTERS: Readonly<Record<string, string>> = {
  organization: "o",
  imatrix: "i",
  calibrationFile: "c",
};

interface GgufFlags {
  readonly quantizedModelId: string;
  readonly quantizedFilename: readonly string[];
  readonly tokModelId?: string;
}

/** Adds the model forms under a command and runs `action` with all options of both levels. */
export function addModelForm<Options extends PlainOptions>(
  command: Command,
  action: (options: Options, form: Command) => Promise<void>,
): void {
  command.enablePositionalOptions();
  const run = async (form: Command, model: Partial<PlainOptions>) => {
    const { quantizedModelId, quantizedFilename, ...options } = form.optsWithGlobals();
    const own = form.name() === "toml" ? command.opts() : options; // its --file is not the command's
    await action({ ...own, ...model } as unknown as Options, form);
  };
  const plain = command
    .command("plain")
    .description("a folder with config.json, tokenizer.json and safetensors files");
  const takesF = command.options.some(({ short }) => short === "-f");
  addFlags(addModelOptions(plain, takesF ? {} : { f: true }), [
    ["writeUqff", "w"],
    ["tokenizerJson", "t"],
  ]);
  addCommandFlags(plain, command).action((_own, form: Command) => run(form, {}));
  const gguf = addGgufFlags(command.command("gguf").description("a GGUF file, whole or in shards"));
  addCommandFlags(gguf, command).action((own: GgufFlags, form: Command) => {
    const { quantizedModelId, quantizedFilename, tokModelId } = own;
    const names = quantizedFilename.flatMap((name) => name.split(/[; ]+/)).filter((name) => name !== "");
    return run(form, ggufModel(quantizedModelId, names, tokModelId));
  });
  const toml = command
    .command("toml")
    .description("a TOML file whose table [model] has the same names")
    .requiredOption("-f, --file <file>", "the file");
  addCommandFlags(toml, command).action(async ({ file }: { file: string }, form: Command) => {
    const { readTomlModel } = await import("./toml-model.js"); // its checks are a quarter of a command's start
    await run(form, refuseTwice(command, await readTomlModel(file), file));
  });
}

/** As {@link addModelForm}, with a builder for the chosen model. */
export function addModelForms<Own extends object>(
  command: Command,
  action: (builder: TextModelBuilder, options: Own & BuildOptions, form: Command) => Promise<void>,
): void {
  addModelForm<Own & BuildOptions>(command, (options, form) => action(createBuilder(options), options, form));
}

function addGgufFlags(form: Command): Command {
  return form
    .requiredOption("-m, --quantized-model-id <folder>", "the folder of the file")
    .requiredOption("-f, --quantized-filename <files...>", "the file, or its shards")
    .option("-t, --tok-model-id <folder>", "where the tokenizer is; beside or inside the file when left out")
    .addOption(createFlag("writeUqff", { short: "w" }));
}

/** The model of one or more GGUF files of a folder. Throws `option/invalid`. */
export function ggufModel(folder: string, names: readonly string[], tokModelId?: string): PlainOptions {
  return { modelId: join(folder, oneGguf(names)), ...(tokModelId !== undefined && { tokModelId }) };
}

/** The file that stands for all that were named: any shard finds the others. Throws `option/invalid`. */
function oneGguf(names: readonly string[]): string {
  const field = "quantizedFilename";
  const wrong = names.find((name) => basename(name) !== name || !/.\.gguf$/i.test(name));
  if (names.length === 0 || wrong !== undefined) {
    const message = `GGUF files are named without a folder and end with .gguf; ${JSON.stringify(wrong ?? "")} is no such name`;
    throw new IsqError("option/invalid", message, { field, value: wrong ?? "" });
  }
  const setOf = (name: string) => /^(.*)-\d{5}(-of-\d{5})\.gguf$/i.exec(name)?.slice(1).join("");
  const [first, ...others] = names;
  const foreign = others.find((name) => setOf(first) === undefined || setOf(name) !== setOf(first));
  if (foreign === undefined) return first;
  const message = `${foreign} is no shard of the model that ${first} belongs to: those are NAME-00001-of-00002.gguf`;
  throw new IsqError("option/invalid", message, { field, value: foreign });
}

/** What a TOML file says may not be said by a flag as well. */
function refuseTwice(command: Command, model: PlainOptions, file: string): PlainOptions {
  const twice = Object.keys(model).find((key) => command.getOptionValueSource(key) === "cli");
  if (twice === undefined) return model;
  const option = command.options.find((one) => one.attributeName() === twice);
  const message = `${option?.long} is given, and ${file} says it too; leave one out`;
  throw new IsqError("option/conflict", message, { file, field: twice });
}

/** Adds the command's flags to the form, where they set the command's values. */
function addCommandFlags(form: Command, command: Command): Command {
  const lettered = (option: Option) => FORM_LETTERS[option.attributeName()] !== undefined;
  const taken = new Set(form.options.map(({ long }) => long));
  const free = command.options.filter(({ long }) => !taken.has(long));
  for (const option of [...free.filter(lettered), ...free.filter((one) => !lettered(one))]) {
    addCommandFlag(form, command, option, FORM_LETTERS[option.attributeName()]);
  }
  return form;
}

/** Flags without a letter of the form's own keep the command's, if it is free, and stay out of the form's help. */
function addCommandFlag(form: Command, command: Command, option: Option, letter?: string): void {
  const key = option.attributeName();
  const short = letter ? `-${letter}` : option.short;
  const isFree = short !== undefined && form.options.every((other) => other.short !== short);
  const long = option.flags.replace(/^-\w, /, "");
  const own = new Option(isFree ? `${short}, ${long}` : long, option.description).hideHelp(!letter);
  if (option.argChoices) own.argChoices = option.argChoices;
  if (option.parseArg) own.parseArg = option.parseArg;
  own.negate = false;
  own.attributeName = () => key;
  form.addOption(own);
  form.on(`option:${own.name()}`, () => {
    if (command.getOptionValueSource(key) === "cli") {
      const message = `${option.long} is given before and after ${form.name()}; leave one out`;
      throw new IsqError("option/conflict", message, { field: key });
    }
    const value = option.negate ? false : form.getOptionValue(key);
    command.setOptionValueWithSource(key, value, "cli");
  });
}
