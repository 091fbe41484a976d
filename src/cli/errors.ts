/** `isq errors`: what quantization does to every tensor, without running the model. */

import type { Command } from "commander";
import { IsqError } from "../errors.js";
import { describeBackend } from "../report/load-text.js";
import { type ErrorVersion, errorPage, errorText } from "../report/quality.js";
import { createWorkProgress } from "./build.js";
import {
  addOutputOptions,
  addVersionOptions,
  type OutputFlags,
  type TypesFlags,
  versionOf,
  versionsOf,
  withMeasuring,
  writeResults,
} from "./measure.js";
import { addModelForm } from "./options.js";

type ErrorFlags = TypesFlags & OutputFlags;

export function addErrorsCommand(program: Command): void {
  const command = program
    .command("errors")
    .description("measure what quantization does to every tensor: RMSE, signal to noise, the worst block");
  addModelForm<ErrorFlags>(addOutputOptions(addVersionOptions(command)), measure);
}

function measure(flags: ErrorFlags): Promise<void> {
  if (!flags.isq && flags.topology === undefined) {
    const message = "nothing is quantized: name types with --isq, or give a --topology";
    throw new IsqError("option/invalid", message, { field: "isq" });
  }
  return withMeasuring(flags, async (measuring) => {
    const measured = { model: flags.modelId, backend: describeBackend(measuring.backend) };
    const versions: ErrorVersion[] = [];
    for (const type of versionsOf(flags)) {
      const { end, onProgress } = createWorkProgress();
      const work = { signal: measuring.signal, onProgress };
      const { plan, tensors } = await measuring.createBuilder(type).measureErrors(work).finally(end);
      versions.push({ ...versionOf(type, plan), tensors });
    }
    await writeResults(
      flags,
      measured,
      { versions },
      {
        text: () => versions.map(errorText).join("\n\n"),
        page: () => errorPage(measured, versions),
      },
    );
  });
}
