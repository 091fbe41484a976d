/** `isq run`: generates text from one prompt. */

import type { Command } from "commander";
import { describeBackend, withModel } from "./build.js";
import {
  addModelForms,
  addQuantizationOptions,
  addRuntimeOptions,
  parseCount,
  parseNumber,
} from "./options.js";

interface RunOptions {
  readonly prompt: string;
  readonly chat?: boolean;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed: number;
}

export function addRunCommand(program: Command): void {
  const command = addRuntimeOptions(
    addQuantizationOptions(
      program
        .command("run")
        .description("quantize a model in situ and generate text")
        .requiredOption("-p, --prompt <text>", "what to continue")
        .option("--chat", "put the prompt through the model's chat template as a user's message")
        .option("-n, --max-tokens <count>", "most tokens to add", parseCount(1), 128)
        .option("--temperature <number>", "0 takes the likeliest token", parseNumber, 0)
        .option("--top-k <count>", "draw from this many likeliest tokens", parseCount(1))
        .option("--top-p <number>", "draw from the likeliest tokens that make up this share", parseNumber)
        .option("--seed <number>", "same seed, same text", parseCount(0), 0),
    ),
  );
  addModelForms<RunOptions>(command, (builder, options) =>
    withModel(builder, async (model, signal) => {
      const { prompt, chat, maxTokens, temperature, topK, topP, seed } = options;
      const input = chat ? { messages: [{ role: "user", content: prompt }] } : { prompt };
      const sampling = {
        temperature,
        seed,
        ...(topK !== undefined && { topK }),
        ...(topP !== undefined && { topP }),
      };
      const started = performance.now();
      let count = 0;
      for await (const piece of model.stream({ ...input, ...sampling, maxTokens, signal })) {
        process.stdout.write(piece.text);
        if (piece.token >= 0) count++;
      }
      const seconds = (performance.now() - started) / 1000;
      process.stdout.write("\n");
      process.stderr.write(
        `${count} tokens in ${seconds.toFixed(1)} s (${(count / seconds).toFixed(1)} per second) on ${describeBackend(model)}\n`,
      );
    }),
  );
}
