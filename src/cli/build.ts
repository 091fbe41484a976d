/** Building a model from the command line: progress while it loads, interruption by Ctrl-C. */

import type { WorkOptions } from "../calibrated-load.js";
import type { TextModel } from "../run.js";
import type { TextModelBuilder } from "../text-model-builder.js";
import { createProgress } from "./progress.js";

/** Runs `work` with a signal that Ctrl-C fires. */
export async function withInterrupt<Result>(work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const abort = new AbortController();
  const interrupt = () => abort.abort("interrupted");
  process.once("SIGINT", interrupt);
  try {
    return await work(abort.signal);
  } finally {
    process.off("SIGINT", interrupt);
  }
}

/** Builds with a progress bar, runs `use`, and disposes the model whatever happens. */
export async function withModel(
  builder: TextModelBuilder,
  use: (model: TextModel, signal: AbortSignal) => Promise<void>,
  title = "quantizing",
): Promise<void> {
  await withInterrupt(async (signal) => {
    const model = await buildModel(builder, signal, title);
    try {
      await use(model, signal);
    } finally {
      await model.dispose();
    }
  });
}

/** Builds with a progress bar. */
export function buildModel(
  builder: TextModelBuilder,
  signal: AbortSignal,
  title = "quantizing",
): Promise<TextModel> {
  const { end, ...progress } = createWorkProgress(title);
  return builder.build({ signal, ...progress }).finally(end);
}

/** Bars for quantizing and, before it, for calibrating. */
export function createWorkProgress(title = "quantizing"): Required<
  Pick<WorkOptions, "onProgress" | "onCalibration">
> & {
  end(): void;
} {
  const calibrating = createProgress("calibrating");
  const quantizing = createProgress(title);
  return {
    onCalibration({ done, total, tokens }) {
      calibrating.update(done, total, `${tokens} tokens`);
      if (done === total) calibrating.end();
    },
    onProgress: ({ done, total, row }) => quantizing.update(done, total, `${row.tensor} ${row.type}`),
    end() {
      calibrating.end();
      quantizing.end();
    },
  };
}

/** Where a model runs, as in `threads (2)`. */
export function describeBackend({ backendName, workers }: TextModel): string {
  return backendName === "threads" ? `threads (${workers})` : backendName;
}
