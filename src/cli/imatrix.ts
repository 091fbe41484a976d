/** `isq imatrix`: an importance matrix from a text, for later runs or for other programs. */

import { access } from "node:fs/promises";
import { dirname } from "node:path";
import { type Command, Option } from "commander";
import { IMATRIX_ENDINGS, imatrixFormatOf } from "../calibrate.js";
import { IsqError } from "../errors.js";
import { nameOfInput, readTextInput } from "../inputs.js";
import { writeSmallFile } from "../node/small-file.js";
import { describeBackend, withModel } from "./build.js";
import {
  addModelOptions,
  addRuntimeOptions,
  createBuilder,
  type PlainOptions,
  parseCount,
  type RuntimeOptions,
} from "./options.js";

interface ImatrixOptions extends PlainOptions, RuntimeOptions {
  readonly file: string;
  readonly output: string;
  readonly chunkTokens?: number;
  readonly chunks?: number;
  readonly force?: boolean;
}

export function addImatrixCommand(program: Command): void {
  const command = program
    .command("imatrix")
    .description("collect an importance matrix: what goes into each weight while the model reads a text");
  addModelOptions(addRuntimeOptions(command))
    .requiredOption("-f, --file <text>", "UTF-8 text")
    .requiredOption(
      "-o, --output <file>",
      `the file to write: NAME${Object.keys(IMATRIX_ENDINGS).join(", NAME")}`,
    )
    .option(
      "--chunk-tokens <count>",
      "tokens per chunk, the BOS not counted; 1024 when left out",
      parseCount(2),
    )
    .option("--chunks <count>", "read only the first chunks", parseCount(1))
    .addOption(new Option("--force", "replace a file that is there"))
    .action(collect);
}

async function collect(options: ImatrixOptions): Promise<void> {
  const { file, output, chunkTokens, chunks: maxChunks } = options;
  const format = imatrixFormatOf(output);
  await checkPlace(output, options.force ?? false);
  const text = await readTextInput(file);
  await withModel(
    createBuilder({ ...options, algorithm: "default" }),
    async (model, signal) => {
      const collected = await model.collectImportance(text, {
        format,
        dataset: nameOfInput(file),
        ...(chunkTokens !== undefined && { chunkTokens }),
        ...(maxChunks !== undefined && { maxChunks }),
        signal,
        onProgress: ({ done, total, tokens, seconds }) =>
          process.stderr.write(`chunk ${done}/${total}: ${tokens} tokens in ${seconds.toFixed(1)} s\n`),
      });
      const bytes = await model.encodeImatrix(collected, format);
      await writeSmallFile(output, bytes);
      process.stdout.write(
        `${output}: ${bytes.byteLength} bytes, ${collected.entries.size} weights, ${collected.chunks} chunks of ` +
          `${collected.chunkTokens} tokens, on ${describeBackend(model)}\n`,
      );
    },
    "loading",
  );
}

/** Before hours of work: throws `output/exists`, and `output/write` for a folder that is not there. */
export async function checkPlace(path: string, overwrite: boolean): Promise<void> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  if (isThere && !overwrite) {
    throw new IsqError("output/exists", `${path} is there already; --force replaces it`, { file: path });
  }
  await access(dirname(path)).catch((cause) => {
    throw new IsqError("output/write", `cannot write ${path}: ${cause.message}`, { file: path }, { cause });
  });
}
