/** Cosines and sines of a rotary table: binary64 angle and functions, rounded to binary32 once after the magnitude. */

import { cos64, sin64 } from "../math.js";
import { f32 } from "../numerics.js";
import type { RopeTable } from "./program.js";

/** Positions beyond this would leave the range in which math.ts reduces angles exactly. */
export const MOST_POSITIONS = 2 ** 20;

/** The angles of positions 0 … `positions` - 1, grown on demand; row p starts at p · rotaryWidth / 2. */
export interface Angles {
  readonly table: RopeTable;
  positions: number;
  cosines: Float32Array;
  sines: Float32Array;
}

export function createAngles(table: RopeTable): Angles {
  return { table, positions: 0, cosines: new Float32Array(0), sines: new Float32Array(0) };
}

/** Makes sure that positions below `wanted` are there; the capacity doubles. */
export function growAngles(angles: Angles, wanted: number): void {
  if (wanted <= angles.positions) return;
  const { frequencies, magnitude } = angles.table;
  const pairs = frequencies.length;
  const positions = Math.max(wanted, 2 * angles.positions, 64);
  const cosines = new Float32Array(positions * pairs);
  const sines = new Float32Array(positions * pairs);
  cosines.set(angles.cosines);
  sines.set(angles.sines);
  for (let position = angles.positions; position < positions; position++) {
    for (let i = 0; i < pairs; i++) {
      const angle = position * frequencies[i];
      cosines[position * pairs + i] = f32(cos64(angle) * magnitude);
      sines[position * pairs + i] = f32(sin64(angle) * magnitude);
    }
  }
  angles.positions = positions;
  angles.cosines = cosines;
  angles.sines = sines;
}
