/**
 * Millions of random blocks against the published llama.cpp library, batch by batch. Every batch is encoded by the library
 * and by the WebAssembly kernels, decoded again by both, and one in REFERENCE_EVERY also goes through the reference. A batch
 * depends on its type, its setting and its number alone. scripts/random-blocks.mjs runs this outside of the test runner.
 */

import type { Backend } from "../../src/backends/backend.js";
import { wasm } from "../../src/backends/wasm.js";
import { type Random, randomFrom } from "../../src/oracle/random.js";
import {
  fillRow,
  IMPORTANCE_KIND_NAMES,
  makeImportance,
  ROW_KINDS,
  type RowRecipe,
} from "../../src/oracle/rows.js";
import { isUndefined } from "../../src/oracle/undefined.js";
import { dequantize, type IsqType, quantize, TYPES } from "../../src/quants/index.js";
import { compareBytes, compareFloats, withoutNanSigns } from "../suites/compare.js";
import { type GgmlOracle, openOracle, oracleMissing } from "./ggml.js";

export { oracleMissing };

export interface Subject {
  readonly type: IsqType;
  readonly importance: boolean;
}

/** Every type that the library encodes, plain and with importance where it has that. */
export const SUBJECTS: readonly Subject[] = Object.values(TYPES)
  .filter(({ family }) => family === "block")
  .flatMap(({ name: type, importance }) => [
    { type, importance: false },
    ...(importance.includes("ggml") ? [{ type, importance: true }] : []),
  ]);

export const nameOf = ({ type, importance }: Subject): string => `${type}${importance ? " importance" : ""}`;

const ROWS = 32;
const COLUMNS = 2048;
/** Every so many batches the reference encodes as well: it takes some ten times as long as the library. */
const REFERENCE_EVERY = 16;

export const blocksOf = ({ type }: Subject): number => (ROWS * COLUMNS) / TYPES[type].blockElements;

export interface BatchResult {
  /** Left out are those on which the library's C code has no defined result. */
  readonly blocks: number;
  readonly referenceBlocks: number;
  /** The first difference, in words. */
  readonly difference?: string;
}

export async function openComparison(): Promise<(subject: Subject, batch: number) => Promise<BatchResult>> {
  const oracle = await openOracle();
  const backend = await wasm();
  return (subject, batch) => compareBatch(oracle, backend, subject, batch);
}

async function compareBatch(
  oracle: GgmlOracle,
  backend: Backend,
  subject: Subject,
  batch: number,
): Promise<BatchResult> {
  const { type } = subject;
  const { values, importance, undefinedBlocks } = makeBatch(subject, batch);
  const options = { shape: [ROWS, COLUMNS], ...(importance && { importance }) };
  const theirs = oracle.quantize(type, values, COLUMNS, importance);
  const made = await backend.quantize(type, values, options);
  const blocks = blocksOf(subject) - undefinedBlocks;
  let difference = compareScales(type, made.data, theirs, "wasm");
  if (type !== "Q8_1") {
    difference ??= compareFloats(
      await backend.dequantize({ ...made, data: theirs }),
      oracle.dequantize(type, theirs),
      "decoded by wasm",
    );
  }
  if (batch % REFERENCE_EVERY !== 0) return { blocks, referenceBlocks: 0, ...(difference && { difference }) };
  const reference = quantize(type, values, options);
  difference ??=
    compareScales(type, reference.data, theirs, "reference") ??
    (type === "Q8_1" ? undefined : compareFloats(dequantize(reference), oracle.dequantize(type, theirs)));
  return { blocks, referenceBlocks: blocks, ...(difference && { difference }) };
}

function compareScales(
  type: IsqType,
  ours: Uint8Array,
  theirs: Uint8Array,
  what: string,
): string | undefined {
  return compareBytes(type, withoutNanSigns(type, ours), withoutNanSigns(type, theirs), what);
}

function makeBatch(subject: Subject, batch: number) {
  const { type } = subject;
  const key = [...`${nameOf(subject)} ${batch}`].reduce(
    (h, c) => Math.imul(h ^ c.charCodeAt(0), 0x01000193),
    7,
  );
  const random = randomFrom(randomFrom(key).word());
  const values = new Float32Array(ROWS * COLUMNS);
  fillRow(
    Array.from({ length: blocksOf(subject) }, () => recipe(random)),
    values,
  );
  if (subject.importance) {
    const drawn = { kind: random.pick(IMPORTANCE_KIND_NAMES), seed: random.word() };
    return { values, importance: makeImportance(drawn, COLUMNS), undefinedBlocks: 0 };
  }
  return { values, undefinedBlocks: clearUndefined(type, values) };
}

/** Mostly the size of weights; sometimes where squares vanish or overflow; seldom the ends of binary32. */
function recipe(random: Random): RowRecipe {
  const where = random.unit();
  const [low, high] = where < 0.8 ? [-10, 3] : where < 0.95 ? [-45, 40] : [-149, 126];
  return { kind: random.pick(ROW_KINDS), exponent: random.integer(low, high), seed: random.word() };
}

/** Blocks without a defined result become zeros. Returns their number. */
function clearUndefined(type: IsqType, values: Float32Array): number {
  const { blockElements } = TYPES[type];
  let cleared = 0;
  for (let at = 0; at < values.length; at += blockElements) {
    const block = values.subarray(at, at + blockElements);
    if (!isUndefined(type, block)) continue;
    block.fill(0);
    cleared++;
  }
  return cleared;
}
