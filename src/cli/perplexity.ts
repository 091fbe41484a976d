/** `isq perplexity`: both statistics of a text under a model, quantized or not. */

import { type Command, Option } from "commander";
import { exp64 } from "../math.js";
import type { PerplexityResult } from "../measure.js";
import { describeBackend, withModel } from "./build.js";
import {
  addModelForms,
  addQuantizationOptions,
  addRuntimeOptions,
  parseCount,
  type QuantizationOptions,
  readTextFile,
} from "./options.js";

interface PerplexityOptions {
  readonly file: string;
  readonly chunkTokens: number;
  readonly chunks?: number;
  readonly json?: boolean;
}

export function addPerplexityCommand(program: Command): void {
  const command = addRuntimeOptions(
    addQuantizationOptions(
      program
        .command("perplexity")
        .description("measure the perplexity of a text file")
        .requiredOption("-f, --file <text>", "UTF-8 text")
        .option("--chunk-tokens <count>", "tokens per chunk", parseCount(2), 1024)
        .option("--chunks <count>", "measure only the first chunks", parseCount(1))
        .addOption(new Option("--json", "print the result as JSON")),
    ),
  );
  addModelForms<PerplexityOptions>(command, async (builder, options) => {
    const text = await readTextFile(options.file);
    await withModel(builder, async (model, signal) => {
      const result = await model.perplexity(text, {
        chunkTokens: options.chunkTokens,
        ...(options.chunks !== undefined && { maxChunks: options.chunks }),
        signal,
        onProgress: (done, total, chunk) =>
          process.stderr.write(
            `chunk ${done}/${total} (${chunk.predictions} tokens): perplexity ${exp64(chunk.nll).toFixed(4)}\n`,
          ),
      });
      process.stdout.write(
        options.json
          ? `${JSON.stringify(result, null, 2)}\n`
          : describe(result, options, describeBackend(model)),
      );
    });
  });
}

function describe(
  result: PerplexityResult,
  options: PerplexityOptions & QuantizationOptions,
  backend: string,
): string {
  const { meanOfChunks, spread, tokenWeighted, standardError, predictions, chunks } = result;
  return (
    `${options.file}, ${options.isq ?? "unquantized"}: ${predictions} tokens in ${chunks.length} chunks, ` +
    `activations quantized as in generation, on ${backend}\n` +
    `perplexity, mean of chunks:  ${meanOfChunks.toFixed(4)} ± ${spread.toFixed(4)} (spread between chunks)\n` +
    `perplexity, token-weighted:  ${tokenWeighted.toFixed(4)} ± ${standardError.toFixed(4)} (standard error)\n`
  );
}
