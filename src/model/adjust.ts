/** Changes of logits before a token is chosen: penalties for what the text has already, and a bias by token. */

import { IsqError } from "../errors.js";
import { f32 } from "../numerics.js";

export interface AdjustOptions {
  /** Logits of tokens that occurred, in the prompt or since, are divided by this if positive and multiplied if not; 1 changes nothing. */
  readonly repetitionPenalty?: number;
  /** Taken off the logit once for each time that the token was chosen. */
  readonly frequencyPenalty?: number;
  /** Taken off the logit of tokens that were chosen. */
  readonly presencePenalty?: number;
  /** Added to the logits of these token ids, after the penalties. */
  readonly logitBias?: Readonly<Record<number, number>>;
}

export interface Adjuster {
  /** The logits with all changes; the very same array when there are none. */
  adjust(logits: Float32Array): Float32Array;
  /** A token was chosen. */
  note(token: number): void;
}

/** Throws `option/invalid`. Every step is rounded to binary32: product or quotient, then the two sums, then the bias. */
export function createAdjuster(options: AdjustOptions, prompt: ArrayLike<number>): Adjuster {
  const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0, logitBias = {} } = options;
  checkNumber("repetitionPenalty", repetitionPenalty, repetitionPenalty > 0, "a number above 0");
  checkNumber("frequencyPenalty", frequencyPenalty);
  checkNumber("presencePenalty", presencePenalty);
  const biases = Object.entries(logitBias).map(([id, bias]) => {
    checkNumber("logitBias", Number(id), /^\d+$/.test(id), "a map whose keys are token ids");
    checkNumber("logitBias", bias);
    return [Number(id), f32(bias)] as const;
  });
  const repeats = repetitionPenalty !== 1;
  const counts = new Map<number, number>();
  const occurred = new Set<number>(repeats ? Array.from(prompt) : []);
  const penalizes = repeats || frequencyPenalty !== 0 || presencePenalty !== 0;
  const repetition = f32(repetitionPenalty);
  const frequency = f32(frequencyPenalty);
  const presence = f32(presencePenalty);
  return {
    adjust(logits) {
      if (biases.length === 0 && !penalizes) return logits;
      const adjusted = logits.slice();
      if (repeats) {
        for (const id of occurred) {
          const logit = adjusted[id];
          adjusted[id] = logit > 0 ? f32(logit / repetition) : f32(logit * repetition);
        }
      }
      for (const [id, count] of counts) {
        adjusted[id] = f32(f32(adjusted[id] - f32(count * frequency)) - presence);
      }
      for (const [id, bias] of biases) if (id < adjusted.length) adjusted[id] = f32(adjusted[id] + bias);
      return adjusted;
    },
    note(token) {
      if (!penalizes) return;
      counts.set(token, (counts.get(token) ?? 0) + 1);
      occurred.add(token);
    },
  };
}

/** Throws `option/invalid` unless an option is absent, or a finite number and `valid`. */
export function checkNumber(
  field: string,
  value: number | undefined,
  valid = true,
  limit = "a finite number",
): void {
  if (value === undefined || (Number.isFinite(value) && valid)) return;
  throw new IsqError("option/invalid", `${field} must be ${limit}, not ${value}`, { field, value, limit });
}
