/** Perplexity while others ask: in small pieces, because its sums run where requests are answered. */

import { chunkTokens } from "../chunks.js";
import { type PerplexityResult, summarizePerplexity } from "../measure.js";
import type { TextModel } from "../run.js";

export interface PerplexityOptions {
  readonly chunkTokens: number;
  readonly signal: AbortSignal;
}

/** As TextModel.perplexity, of token ids. Throws `prompt/*`, `option/invalid`, `aborted`. */
export async function perplexityOf(
  model: TextModel,
  tokens: readonly number[],
  { signal, ...options }: PerplexityOptions,
): Promise<PerplexityResult> {
  const chunks = chunkTokens(tokens, model.tokenizer.beginToken, options);
  const losses: number[] = [];
  const results = [];
  for (const [index, { tokens }] of chunks.entries()) {
    const own = (await model.promptLogprobs({ tokens }, 0, { signal })).map(({ logprob }) => -logprob);
    losses.push(...own);
    const nll = own.reduce((sum, loss) => sum + loss, 0) / own.length;
    results.push({ index, predictions: own.length, nll });
  }
  return summarizePerplexity(results, losses);
}
