/** `isq run`: continues one prompt, or talks when there is none. */

import type { Command } from "commander";
import type { SamplerOptions } from "../model/sampler.js";
import type { TextModelBuilder } from "../text-model-builder.js";
import { buildModel, describeBackend, withInterrupt, withModel } from "./build.js";
import { converse, INTERACTIVE_SAMPLING, INTERACTIVE_TOKENS } from "./interactive.js";
import {
  addModelForms,
  addQuantizationOptions,
  addRuntimeOptions,
  addTextOptions,
  type BuildOptions,
  checkImportanceUse,
  createFlag,
  parseCount,
  parseNumber,
  parseShare,
} from "./options.js";

interface RunOptions {
  readonly prompt?: string;
  readonly chat?: boolean;
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed: number;
  readonly truncateSequence?: boolean;
  readonly throughput?: boolean;
}

const PROMPT_TOKENS = 128;

export function addRunCommand(program: Command): void {
  const command = program
    .command("run")
    .description("quantize a model in situ, and continue a prompt or talk with it")
    .option("-p, --prompt <text>", "what to continue; without it, a conversation begins")
    .option("--chat", "put the prompt through the model's chat template as a user's message")
    .option(
      "-n, --max-tokens <count>",
      `most tokens to add; ${PROMPT_TOKENS} when left out, and ${INTERACTIVE_TOKENS} per answer of a conversation`,
      parseCount(1),
    )
    .option(
      "--temperature <number>",
      "0 takes the likeliest token: the default for a prompt; 0.1 in a conversation",
      parseNumber,
    )
    .option("--top-k <count>", "draw from this many likeliest tokens", parseCount(1))
    .option("--top-p <number>", "draw from the likeliest tokens that make up this share", parseShare)
    .addOption(createFlag("seed", { preset: 0 }))
    .addOption(createFlag("truncateSequence"))
    .addOption(createFlag("throughput"));
  addTextOptions(addRuntimeOptions(addQuantizationOptions(command)));
  addModelForms<RunOptions>(command, async (builder, options) => {
    checkImportanceUse(options);
    await (options.prompt === undefined
      ? talk(builder, options)
      : complete(builder, options, options.prompt));
  });
}

/** Loads with a progress bar, talks, and frees the model. */
export async function talk(
  builder: TextModelBuilder,
  {
    maxTokens = INTERACTIVE_TOKENS,
    truncateSequence = false,
    throughput = false,
    ...own
  }: Partial<RunOptions>,
): Promise<void> {
  const model = await withInterrupt((signal) => buildModel(builder, signal));
  try {
    const sampling = { ...INTERACTIVE_SAMPLING, ...samplingOf(own) };
    await converse(model, { sampling, maxTokens, truncate: truncateSequence, throughput });
  } finally {
    await model.dispose();
  }
}

function samplingOf({ temperature, topK, topP, seed }: Partial<RunOptions>): SamplerOptions {
  return {
    ...(seed !== undefined && { seed }),
    ...(temperature !== undefined && { temperature }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
  };
}

function complete(
  builder: TextModelBuilder,
  { chat, maxTokens = PROMPT_TOKENS, ...options }: RunOptions & Partial<BuildOptions>,
  prompt: string,
): Promise<void> {
  return withModel(builder, async (model, signal) => {
    const input = chat ? { messages: [{ role: "user", content: prompt }] } : { prompt };
    const started = performance.now();
    let count = 0;
    for await (const piece of model.stream({ ...input, ...samplingOf(options), maxTokens, signal })) {
      process.stdout.write(piece.text);
      if (piece.token >= 0) count++;
    }
    const seconds = (performance.now() - started) / 1000;
    process.stdout.write("\n");
    process.stderr.write(
      `${count} tokens in ${seconds.toFixed(1)} s (${(count / seconds).toFixed(1)} per second) on ${describeBackend(model)}\n`,
    );
  });
}
