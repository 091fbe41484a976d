/** Tokens for which llama.cpp's router of deepseek2 rates two experts almost the same. */

import { openGguf } from "../../src/files/gguf.js";
import { fromBytes } from "../../src/files/source.js";
import type { LlamaModel } from "./llama.js";

const ROUTER = /^blk\.\d+\.ffn_gate_inp\.weight$/;

/**
 * For each token how far it is from going elsewhere: the difference of the ratings of the last one chosen and the first one
 * that is not, of groups or of the experts in them, the least of all layers. `bytes` is the model's file.
 */
export async function routerMargins(
  model: LlamaModel,
  bytes: Uint8Array,
  tokens: readonly number[],
): Promise<number[]> {
  const inputs = new Map<string, Float32Array>();
  model.observe(tokens, (name, values) => void (ROUTER.test(name) && inputs.set(name, values)));
  const file = await openGguf(fromBytes(bytes));
  const read = async (name: string) => new Float32Array((await file.read(name)).slice().buffer);
  const margins = tokens.map(() => Number.POSITIVE_INFINITY);
  for (const [name, x] of inputs) {
    const weight = await read(name);
    const bias = await read(name.replace("ffn_gate_inp.weight", "exp_probs_b.bias"));
    const width = weight.length / bias.length;
    for (let token = 0; token < tokens.length; token++) {
      const ratings = Array.from(bias, (offset, expert) => {
        let sum = 0;
        for (let i = 0; i < width; i++) sum += weight[expert * width + i] * x[token * width + i];
        return 1 / (1 + Math.exp(-sum)) + offset;
      });
      margins[token] = Math.min(margins[token], marginOf(ratings));
    }
  }
  return margins;
}

/** Of two groups one is chosen, which has the largest sum of its two best; of its experts the two best. */
function marginOf(ratings: readonly number[]): number {
  const descending = (values: readonly number[]) => [...values].sort((a, b) => b - a);
  const half = ratings.length / 2;
  const groups = [ratings.slice(0, half), ratings.slice(half)].map(descending);
  const [best, other] = groups.sort((a, b) => b[0] + b[1] - a[0] - a[1]);
  return Math.min(best[0] + best[1] - other[0] - other[1], best[1] - best[2]);
}
