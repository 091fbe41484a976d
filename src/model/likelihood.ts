/** How likely a model finds a text: binary64 with the functions of math.ts. */

import { exp64, log64 } from "../math.js";
import type { LanguageModel, RunOptions, Tokens } from "./language-model.js";

/** -ln p(target) under the softmax of `vocabulary` logits from `start`; nats. Sums run in id order. */
export function surprisal(logits: Float32Array, start: number, vocabulary: number, target: number): number {
  let most = Number.NEGATIVE_INFINITY;
  for (let i = start; i < start + vocabulary; i++) if (logits[i] > most) most = logits[i];
  let sum = 0;
  for (let i = start; i < start + vocabulary; i++) sum += exp64(logits[i] - most);
  return log64(sum) - (logits[start + target] - most);
}

/** Surprisal of each token after the first given those before it, [tokens - 1] nats. */
export async function scoreTokens(
  model: LanguageModel,
  tokens: Tokens,
  options: RunOptions = {},
): Promise<Float64Array> {
  const { vocabulary } = model.program;
  const scores = new Float64Array(Math.max(0, tokens.length - 1));
  const visit = (logits: Float32Array, firstRow: number) => {
    const rows = Math.min(logits.length / vocabulary, scores.length - firstRow);
    for (let row = 0; row < rows; row++) {
      scores[firstRow + row] = surprisal(logits, row * vocabulary, vocabulary, tokens[firstRow + row + 1]);
    }
  };
  await model.visitLogits(tokens, visit, options);
  return scores;
}
