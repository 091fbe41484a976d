/** One model, run on one backend: logits, text, perplexity, and the same after its type was changed. */

import type { Backend } from "../../../src/backends/backend.js";
import { TextModelBuilder } from "../../../src/text-model-builder.js";
import type { Digests } from "./digest.js";
import { type Host, modelDirectory } from "./host.js";

const PROMPT = "The database connection";
const TEXT_BYTES = 1200;

export async function runModel(host: Host, backend: Backend, digests: Digests): Promise<string[]> {
  const builder = new TextModelBuilder(await modelDirectory(host)).withIsq("Q4K").withBackend(backend);
  const model = await builder.withContextLength(512).build();
  try {
    const tokens = model.tokenizer.encode(PROMPT);
    digests.text("model: tokens", JSON.stringify([...tokens]));
    digests.floats("model: logits, Q4K", await model.logits(tokens));
    const greedy = await model.generate({ prompt: PROMPT, maxTokens: 24 });
    digests.text("model: greedy text", greedy.text);
    const drawn = await model.generate({ prompt: PROMPT, maxTokens: 24, temperature: 0.9, seed: 7 });
    digests.text("model: drawn text", drawn.text);
    const text = new TextDecoder().decode((await host.read("models/text/eval.txt")).subarray(0, TEXT_BYTES));
    digests.text(
      "model: perplexity",
      JSON.stringify(await model.perplexity(text, { chunkTokens: 128, maxChunks: 1 })),
    );
    await model.reIsq("Q8_0");
    digests.floats("model: logits, Q8_0 again", await model.logits(tokens));
    return [];
  } finally {
    await model.dispose();
  }
}
