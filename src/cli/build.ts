/** Building a model from the command line: progress while it loads, interruption by Ctrl-C. */

import type { TextModel, TextModelBuilder } from "../run.js";
import { createProgress } from "./progress.js";

/** Builds with a progress bar, runs `use`, and disposes the model whatever happens. */
export async function withModel(
  builder: TextModelBuilder,
  use: (model: TextModel, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const abort = new AbortController();
  const interrupt = () => abort.abort("interrupted");
  process.once("SIGINT", interrupt);
  const progress = createProgress("quantizing");
  try {
    const model = await builder.build({
      signal: abort.signal,
      onProgress: ({ done, total, row }) => progress.update(done, total, `${row.tensor} ${row.type}`),
    });
    progress.end();
    try {
      await use(model, abort.signal);
    } finally {
      await model.dispose();
    }
  } finally {
    progress.end();
    process.off("SIGINT", interrupt);
  }
}

/** Where a model runs, as in `threads (2)`. */
export function describeBackend({ backendName, workers }: TextModel): string {
  return backendName === "threads" ? `threads (${workers})` : backendName;
}
