/** `isq kld`: how far the predictions of quantized models are from those of the unquantized one. */

import type { Command } from "commander";
import { IsqError } from "../errors.js";
import {
  type DivergenceVersion,
  divergencePage,
  divergenceText,
  divergenceVersion,
} from "../report/quality.js";
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

type DivergenceFlags = TypesFlags & TextFlags & OutputFlags;

export function addKldCommand(program: Command): void {
  const command = program
    .command("kld")
    .description("measure the KL divergence from the unquantized model over a text file");
  addModelForm<DivergenceFlags>(addOutputOptions(addVersionOptions(addTextOptions(command))), measure);
}

async function measure(flags: DivergenceFlags): Promise<void> {
  if (!flags.isq && flags.topology === undefined) {
    const message = "there is nothing to compare: name types with --isq, or give a --topology";
    throw new IsqError("option/invalid", message, { field: "isq" });
  }
  const text = await readTextFile(flags.file);
  await withMeasuring(flags, async (measuring) => {
    const { options, measured } = describeText(flags, flags.modelId, measuring.backend);
    const versions: DivergenceVersion[] = [];
    await measuring.withModel(null, async (reference) => {
      for (const type of versionsOf(flags)) {
        await measuring.withModel(type, async (model) => {
          const work = { ...options, ...chunkProgress(measuring.signal) };
          const result = await model.divergenceFrom(reference, text, work);
          versions.push(divergenceVersion(versionOf(type, model.plan), result));
        });
      }
    });
    await writeResults(
      flags,
      measured,
      { versions },
      {
        text: () => divergenceText(versions),
        page: () => divergencePage(measured, versions),
      },
    );
  });
}
