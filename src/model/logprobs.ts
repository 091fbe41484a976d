/** How likely the model finds a token: of its logits as they are, before temperature, penalties and truncation. */

import { logSumExp } from "../measure.js";

export interface TokenLogprob {
  readonly token: number;
  /** Natural logarithm of the probability; -Infinity for a logit of that. */
  readonly logprob: number;
}

/** The chosen token and the likeliest ones. */
export interface ChosenLogprobs extends TokenLogprob {
  /** Likeliest first, the lower id among equals. */
  readonly top: readonly TokenLogprob[];
}

/** Log probabilities, binary64, of one row of logits: of `token` and of the `count` likeliest. */
export function logprobsOf(logits: Float32Array, token: number, count: number): ChosenLogprobs {
  const total = logSumExp(logits, 0, logits.length);
  const of = (id: number) => ({ token: id, logprob: logits[id] - total });
  return { ...of(token), top: largestIds(logits, count).map(of) };
}

/** Ids of the `count` largest values, largest first, the lower id among equals. */
function largestIds(values: Float32Array, count: number): number[] {
  const ids: number[] = [];
  if (count === 0) return ids;
  for (let id = 0; id < values.length; id++) {
    if (ids.length === count && values[id] <= values[ids[count - 1]]) continue;
    let place = ids.length;
    while (place > 0 && values[ids[place - 1]] < values[id]) place--;
    ids.splice(place, 0, id);
    if (ids.length > count) ids.pop();
  }
  return ids;
}
