/**
 * Millions of random blocks against the published llama.cpp library, batch by batch. Every batch is encoded by the library
 * and by the WebAssembly kernels, decoded again by both, and one in REFERENCE_EVERY also goes through the reference. Drawing
 * blocks takes longer than encoding them, so eight batches are made of one draw: every mixture of negated, reversed and made
 * smaller. A batch depends on its type, its setting and its number alone. scripts/random-blocks.mjs runs this outside of the test runner.
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
/** Every so many batches the reference encodes as well, which takes ten times as long; no multiple of the ways below. */
const REFERENCE_EVERY = 65;
/** Ways of using one draw. */
const WAYS = 8;

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
  const draws = new Map<string, { readonly number: number; readonly values: Float32Array }>();
  const draw = (subject: Subject, number: number): Float32Array => {
    const name = nameOf(subject);
    const last = draws.get(name);
    if (last?.number === number) return last.values;
    const values = drawBlocks(subject, randomOf(`${name} ${number}`));
    draws.set(name, { number, values });
    return values;
  };
  return (subject, batch) => {
    const drawn = draw(subject, Math.floor(batch / WAYS));
    return compareBatch(oracle, backend, subject, batch, makeBatch(subject, batch, drawn));
  };
}

async function compareBatch(
  oracle: GgmlOracle,
  backend: Backend,
  subject: Subject,
  batch: number,
  { values, importance, undefinedBlocks }: ReturnType<typeof makeBatch>,
): Promise<BatchResult> {
  const { type } = subject;
  const options = { shape: [ROWS, COLUMNS], ...(importance && { importance }) };
  const theirs = oracle.quantize(type, values, COLUMNS, importance);
  const made = await backend.quantize(type, values, options);
  const blocks = blocksOf(subject) - undefinedBlocks;
  let difference = compareScales(type, made.data, theirs, "wasm");
  if (type !== "Q8_1") {
    const decoded = await backend.dequantize({ ...made, data: theirs });
    const expected = oracle.dequantize(type, theirs);
    if (!isSame(decoded, expected)) difference ??= compareFloats(decoded, expected, "decoded by wasm");
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
  if (isSame(ours, theirs)) return undefined;
  return compareBytes(type, withoutNanSigns(type, ours), withoutNanSigns(type, theirs), what);
}

/** Byte by byte, which is all that most batches need. */
function isSame(a: ArrayBufferView, b: ArrayBufferView): boolean {
  const bytes = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
    Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
  return bytes(a).equals(bytes(b));
}

function randomOf(name: string): Random {
  const key = [...name].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 0x01000193), 7);
  return randomFrom(randomFrom(key).word());
}

function drawBlocks(subject: Subject, random: Random): Float32Array {
  const values = new Float32Array(ROWS * COLUMNS);
  fillRow(
    Array.from({ length: blocksOf(subject) }, () => recipe(random)),
    values,
  );
  return values;
}

function makeBatch(subject: Subject, batch: number, drawn: Float32Array) {
  const values = drawn.slice();
  const way = batch % WAYS;
  const factor = (way & 1 ? -1 : 1) * (way & 4 ? 2 ** -5 : 1);
  if (way & 2) values.reverse();
  if (factor !== 1) for (let i = 0; i < values.length; i++) values[i] *= factor;
  if (subject.importance) {
    const random = randomOf(`${nameOf(subject)} importance ${batch}`);
    const recipe = { kind: random.pick(IMPORTANCE_KIND_NAMES), seed: random.word() };
    return { values, importance: makeImportance(recipe, COLUMNS), undefinedBlocks: 0 };
  }
  return { values, undefinedBlocks: clearUndefined(subject.type, values) };
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
