/** How far decoded weights are from what they were made of. */

import { log64 } from "./math.js";

/** How far decoded weights are from their source. */
export interface TensorError {
  /** Root mean square error. */
  readonly rmse: number;
  /** Signal to noise ratio in decibels: 10·log10(Σ x² / Σ e²); Infinity for no error. */
  readonly snr: number;
  /** Largest |error|. */
  readonly max: number;
  /** The block with the largest root mean square error: where it starts, and that error. */
  readonly worstBlock: { readonly row: number; readonly column: number; readonly rmse: number };
  /** Square root of Σ i·e² / Σ i, i being the importance of the column; present when importance was given. */
  readonly weightedRmse?: number;
}

/** How the elements of a tensor belong together. */
export interface ErrorLayout {
  /** Elements of a row; all when absent. */
  readonly columns?: number;
  /** Columns of a block; the last one of a row may be short. 64 when absent. */
  readonly blockColumns?: number;
  /** One value per column. */
  readonly importance?: Float32Array;
}

/** Columns that count as a block where the type has no blocks along rows. */
export const LOOSE_BLOCK = 64;

/** Error of `decoded` against `values`, of equal length. Sums are binary64, block by block. */
export function tensorError(
  values: Float32Array,
  decoded: Float32Array,
  { columns = values.length, blockColumns = LOOSE_BLOCK, importance }: ErrorLayout = {},
): TensorError {
  let signal = 0;
  let noise = 0;
  let max = 0;
  let weighted = 0;
  let worst = { row: 0, column: 0, rmse: 0 };
  for (let start = 0, row = 0; start < values.length; start += columns, row++) {
    for (let column = 0; column < columns; column += blockColumns) {
      const end = Math.min(columns, column + blockColumns);
      let blockNoise = 0;
      for (let c = column; c < end; c++) {
        const error = decoded[start + c] - values[start + c];
        signal += values[start + c] * values[start + c];
        blockNoise += error * error;
        max = Math.max(max, Math.abs(error));
        if (importance) weighted += importance[c] * error * error;
      }
      noise += blockNoise;
      const rmse = Math.sqrt(blockNoise / (end - column));
      if (rmse > worst.rmse) worst = { row, column, rmse };
    }
  }
  const rows = values.length / columns;
  const total = importance ? rows * importance.reduce((sum, value) => sum + value, 0) : 0;
  return {
    rmse: values.length === 0 ? 0 : Math.sqrt(noise / values.length),
    snr: noise === 0 ? Number.POSITIVE_INFINITY : (10 * log64(signal / noise)) / log64(10),
    max,
    worstBlock: worst,
    ...(importance && { weightedRmse: total === 0 ? 0 : Math.sqrt(weighted / total) }),
  };
}
