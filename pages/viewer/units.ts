/**
 * How a tensor falls into units of which errors are shown: blocks, groups of HQQ, and runs of 32 elements where there is
 * neither. Units lie in lines, as the map shows them.
 */

import { isDense } from "../../src/dense.js";
import { type Algorithm, type IsqType, TYPES } from "../../src/quants/table.js";
import { elementCount, rowElements } from "../../src/quants/tensor.js";

export interface Units {
  /** What a unit is called. */
  readonly name: "block" | "group" | "run";
  readonly count: number;
  readonly perLine: number;
  /** Elements of each; the last run of a row may have fewer. */
  readonly elements: number;
  /** Flat indices of the elements of a unit. */
  indicesOf(unit: number): Uint32Array;
  /** Where a unit is, in words. */
  describe(unit: number): string;
  /** Whether a unit's elements follow each other. */
  readonly consecutive: boolean;
}

const RUN = 32;

export function unitsOf(type: string, algorithm: Algorithm | undefined, shape: readonly number[]): Units {
  if (!isDense(type) && TYPES[type as IsqType].family === "group") return groupsOf(algorithm, shape);
  const columns = rowElements(shape);
  const isBlock = !isDense(type) && TYPES[type as IsqType].family === "block";
  const elements = isBlock ? TYPES[type as IsqType].blockElements : RUN;
  const perLine = Math.max(1, Math.ceil(columns / elements));
  const rows = columns === 0 ? 0 : elementCount(shape) / columns;
  const startOf = (unit: number) => Math.floor(unit / perLine) * columns + (unit % perLine) * elements;
  return {
    name: isBlock ? "block" : "run",
    count: rows * perLine,
    perLine,
    elements,
    consecutive: true,
    indicesOf(unit) {
      const from = startOf(unit);
      const left = columns - (unit % perLine) * elements;
      return Uint32Array.from({ length: Math.min(elements, left) }, (_, i) => from + i);
    },
    describe(unit) {
      const column = (unit % perLine) * elements;
      const last = Math.min(column + elements, columns) - 1;
      return `row ${Math.floor(unit / perLine)}, columns ${column} to ${last}`;
    },
  };
}

/** Groups of 64: consecutive elements, or (mistral.rs) one in every so many. */
function groupsOf(algorithm: Algorithm | undefined, shape: readonly number[]): Units {
  const elements = TYPES.HQQ4.blockElements;
  const count = elementCount(shape) / elements;
  const consecutive = algorithm === "hqq";
  const columns = rowElements(shape);
  const perLine = consecutive ? Math.max(1, Math.floor(columns / elements)) : columns;
  return {
    name: "group",
    count,
    perLine: Math.min(Math.max(1, count), perLine),
    elements,
    consecutive,
    indicesOf: (unit) =>
      Uint32Array.from({ length: elements }, (_, r) =>
        consecutive ? unit * elements + r : unit + r * count,
      ),
    describe: (unit) =>
      consecutive
        ? `elements ${unit * elements} to ${unit * elements + elements - 1}`
        : `elements ${unit}, ${unit + count}, … ${unit + (elements - 1) * count}`,
  };
}
