/** `isq perplexity`: both statistics of a text under a model, quantized or not. */

import type { Command } from "commander";
import { type PerplexityVersion, perplexityPage, perplexityText } from "../report/quality.js";
import {
  addOutputOptions,
  addTextOptions,
  addVersionOptions,
  chunkProgress,
  describeText,
  type OutputFlags,
  type TextFlags,
  type TypesFlags,
  versionOf,
  versionsOf,
  withMeasuring,
  writeResults,
} from "./measure.js";
import { addModelForm, readTextFile } from "./options.js";

type PerplexityFlags = TypesFlags & TextFlags & OutputFlags;

export function addPerplexityCommand(program: Command): void {
  const command = program.command("perplexity").description("measure the perplexity of a text file");
  addModelForm<PerplexityFlags>(addOutputOptions(addVersionOptions(addTextOptions(command))), measure);
}

async function measure(flags: PerplexityFlags): Promise<void> {
  const text = await readTextFile(flags.file);
  await withMeasuring(flags, async (measuring) => {
    const { options, measured } = describeText(flags, flags.modelId, measuring.backend);
    const versions: PerplexityVersion[] = [];
    for (const type of versionsOf(flags)) {
      await measuring.withModel(type, async (model) => {
        const result = await model.perplexity(text, { ...options, ...chunkProgress(measuring.signal) });
        versions.push({ ...versionOf(type, model.plan), ...result });
      });
    }
    await writeResults(
      flags,
      measured,
      { versions },
      {
        text: () => perplexityText(versions),
        page: () => perplexityPage(measured, versions),
      },
    );
  });
}
