/** One quantized tensor against the values it is said to be made of: which encoder made it, and what differs. */

import type { Awaitable } from "../backends/backend.js";
import { bfloatFromFloat, floatFromBfloat, floatFromHalf, halfFromFloat } from "../numerics.js";
import { dequantize, type QuantizedTensor, quantize } from "../quants/index.js";
import { type Algorithm, type IsqType, TYPES } from "../quants/table.js";
import { elementCount } from "../quants/tensor.js";
import { canonicalAnswer } from "./answers.js";
import { BlockTally, type RowCounts, type WorstBlock } from "./audit-rows.js";
import { packTensor } from "./packed.js";

/** What a tensor is, from best to worst. */
export const TENSOR_VERDICTS = [
  "identical",
  "identical under another algorithm",
  "differs only at near ties",
  "other importance or search",
  "not from this source",
] as const;
/** One of {@link TENSOR_VERDICTS}. */
export type TensorVerdict = (typeof TENSOR_VERDICTS)[number];

/** The encoder that explains a tensor best. */
export interface EncoderGuess {
  readonly algorithm: Algorithm;
  /** The importance that was given to the audit was used. */
  readonly importance: boolean;
  /** The source was rounded first, as a conversion on the way does. */
  readonly rounded: "F16" | "BF16" | null;
}

/** What an audit found in one tensor. */
export interface TensorFindings {
  readonly verdict: TensorVerdict;
  readonly encoder: EncoderGuess;
  /** Of blocks; groups for HQQ, elements for FP8. */
  readonly counts: RowCounts;
  readonly worst?: WorstBlock;
}

/** What is known of how a tensor was made. */
export interface TensorAuditOptions {
  readonly importance?: Float32Array | undefined;
  /** Type of the source's values; roundings that change nothing are not tried. F32 when absent. */
  readonly sourceType?: "F32" | "F16" | "BF16";
  /** Encoder to use; that of isq/quants when absent. Must give the same bytes. */
  readonly quantize?: (
    type: IsqType,
    values: Float32Array,
    options: { shape: readonly number[]; algorithm: Algorithm; importance?: Float32Array },
  ) => Awaitable<QuantizedTensor>;
}

/** Rows arrive in pieces, so that no tensor need be whole in memory. */
export interface TensorAudit {
  /** Whole rows: their source values and what the file has for them. */
  add(values: Float32Array, data: Uint8Array): Promise<void>;
  /** What was found, once all rows were added. */
  finish(): TensorFindings;
}

/** Tries encoders on so many elements before it settles on one. */
const TRIAL_ELEMENTS = 2 ** 16;

/** Opens the audit of a tensor of a block type with rows of `columns` elements. Values must be finite. */
export function openTensorAudit(
  type: IsqType,
  columns: number,
  options: TensorAuditOptions = {},
): TensorAudit {
  const encode = options.quantize ?? quantize;
  const tally = new BlockTally();
  const rowBytes = (columns / TYPES[type].blockElements) * TYPES[type].blockBytes;
  let chosen: EncoderGuess | undefined;
  let rows = 0;

  const expect = async (guess: EncoderGuess, values: Float32Array) => {
    const rounded = roundValues(values, guess.rounded);
    const importance = guess.importance ? options.importance : undefined;
    const shape = [values.length / columns, columns];
    const request = { shape, algorithm: guess.algorithm, ...(importance && { importance }) };
    const { data } = await encode(type, rounded, request);
    return { rounded, importance, data: canonicalAnswer({ operation: "encode", type, columns }, data) };
  };

  /** The first encoder that explains everything, or the one that explains most. */
  const choose = async (values: Float32Array, data: Uint8Array): Promise<EncoderGuess> => {
    const trialRows = Math.max(1, Math.floor(Math.min(values.length, TRIAL_ELEMENTS) / columns));
    const trial = values.subarray(0, trialRows * columns);
    let best: { guess: EncoderGuess; same: number } | undefined;
    for (const guess of guesses(type, options)) {
      const { data: expected } = await expect(guess, trial);
      const same = countSame(type, expected, data);
      if (same * TYPES[type].blockBytes === expected.length) return guess;
      if (!best || same > best.same) best = { guess, same };
    }
    return (best as { guess: EncoderGuess }).guess;
  };

  return {
    async add(values, stored) {
      const data = canonicalAnswer({ operation: "encode", type, columns }, stored);
      chosen ??= await choose(values, data);
      const { rounded, importance, data: expected } = await expect(chosen, values);
      for (let r = 0; r * rowBytes < data.length; r++, rows++) {
        const [ours, theirs] = [expected, data].map((all) => all.subarray(r * rowBytes, (r + 1) * rowBytes));
        const own = rounded.subarray(r * columns, (r + 1) * columns);
        tally.addRow({ type, algorithm: chosen.algorithm, values: own, importance }, rows, ours, theirs);
      }
    },
    finish() {
      const encoder = chosen ?? { algorithm: TYPES[type].algorithms[0], importance: false, rounded: null };
      const worst = tally.worstBlock();
      const verdict = verdictOf(type, encoder, tally.counts);
      return { verdict, encoder, counts: { ...tally.counts }, ...(worst && { worst }) };
    },
  };
}

/** Audits a whole tensor of any type. Throws `data/length` when its parts do not fit its shape. */
export async function auditTensor(
  tensor: QuantizedTensor,
  values: Float32Array,
  options: TensorAuditOptions = {},
): Promise<TensorFindings> {
  const { type, shape, data } = tensor;
  if (TYPES[type].family !== "block") return auditWhole(tensor, values, options);
  const audit = openTensorAudit(type, shape[shape.length - 1], options);
  await audit.add(values, data);
  return audit.finish();
}

function* guesses(
  type: IsqType,
  { importance, sourceType = "F32" }: TensorAuditOptions,
): Generator<EncoderGuess> {
  const roundings = ([null, "F16", "BF16"] as const).filter((rounded) => rounded !== sourceType);
  for (const rounded of roundings) {
    for (const algorithm of TYPES[type].algorithms) {
      const taking = importance && TYPES[type].importance.includes(algorithm);
      if (taking) yield { algorithm, importance: true, rounded };
      yield { algorithm, importance: false, rounded };
    }
  }
}

function roundValues(values: Float32Array, rounded: EncoderGuess["rounded"]): Float32Array {
  if (rounded === null) return values;
  const round =
    rounded === "F16"
      ? (v: number) => floatFromHalf(halfFromFloat(v))
      : (v: number) => floatFromBfloat(bfloatFromFloat(v));
  return values.map((v) => (Number.isFinite(round(v)) ? round(v) : v));
}

function countSame(type: IsqType, expected: Uint8Array, actual: Uint8Array): number {
  const { blockBytes } = TYPES[type];
  let same = 0;
  for (let at = 0; at < expected.length; at += blockBytes) {
    let i = at;
    while (i < at + blockBytes && expected[i] === actual[i]) i++;
    if (i === at + blockBytes) same++;
  }
  return same;
}

function verdictOf(type: IsqType, { algorithm }: EncoderGuess, counts: RowCounts): TensorVerdict {
  if (counts.foreign > 0) return "not from this source";
  if (counts["other-search"] > 0) return "other importance or search";
  if (counts["near-tie"] > 0) return "differs only at near ties";
  return algorithm === TYPES[type].algorithms[0] ? "identical" : "identical under another algorithm";
}

/** HQQ and FP8: every encoder looks at the whole tensor. A code that its own scale does not explain is foreign. */
async function auditWhole(
  tensor: QuantizedTensor,
  values: Float32Array,
  options: TensorAuditOptions,
): Promise<TensorFindings> {
  const { type, shape } = tensor;
  const spec = { operation: "encode", type, columns: elementCount(shape) } as const;
  const actual = canonicalAnswer(spec, packTensor(tensor));
  const encode = options.quantize ?? quantize;
  for (const encoder of guesses(type, { ...options, importance: undefined })) {
    const made = await encode(type, roundValues(values, encoder.rounded), {
      shape,
      algorithm: encoder.algorithm,
    });
    const expected = canonicalAnswer(spec, packTensor(made));
    if (expected.some((byte, i) => byte !== actual[i])) continue;
    const counts = { identical: unitCount(tensor), "near-tie": 0, "other-search": 0, foreign: 0 };
    return { verdict: verdictOf(type, encoder, counts), encoder, counts };
  }
  return classifyUnits(tensor, values);
}

const unitCount = ({ type, shape }: QuantizedTensor): number =>
  elementCount(shape) / TYPES[type].blockElements;

/** Half a step of the scale that a value's code was rounded with, and a little: beyond it the value is another. */
function classifyUnits(tensor: QuantizedTensor, values: Float32Array): TensorFindings {
  const { type, scales, dequantizeScale = 1 } = tensor;
  const decoded = dequantize(tensor);
  const groups = scales?.length ?? values.length;
  const consecutive = tensor.algorithm === "hqq" || !scales;
  const unitOf = (i: number) => (consecutive ? Math.floor(i / TYPES[type].blockElements) : i % groups);
  const bad = new Set<number>();
  let [element, distance] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const step = scales ? scales[unitOf(i)] : Math.max(Math.abs(decoded[i]) / 8, dequantizeScale * 2 ** -9);
    const off = Math.abs(values[i] - decoded[i]) / step;
    if (!(off > LOOSEST)) continue;
    bad.add(unitOf(i));
    if (off > distance) [element, distance] = [i, off];
  }
  const counts = {
    identical: 0,
    "near-tie": 0,
    "other-search": unitCount(tensor) - bad.size,
    foreign: bad.size,
  };
  const encoder = { algorithm: tensor.algorithm, importance: false, rounded: null };
  const place = { row: 0, block: unitOf(element), column: element, element, distance };
  const worst = { class: "foreign" as const, ...place };
  return { verdict: verdictOf(type, encoder, counts), encoder, counts, ...(bad.size > 0 && { worst }) };
}

/** Values clamped at the ends of a group's range may be a step or two away. */
const LOOSEST = 2.5;
