/** The first difference of an encoded row: which field and element, how close the contract's decisions were, why. */

import { bitsOf, f32, halfFromFloat } from "../numerics.js";
import { TYPES } from "../quants/table.js";
import { STRICT } from "./arithmetic.js";
import { type Cause, differingBytes, findCauses } from "./causes.js";
import { type BlockContent, type Layout, layoutOf, readBlock } from "./layout.js";
import { type Candidate, type SearchTrace, ulpsBetween } from "./trace.js";
import { encodeRowBlock, type RowInput } from "./trace-row.js";

/** A stored number that differs. `ulps` counts numbers of its own format in between; for codes, steps. */
export interface NumberDifference {
  /** `d`, `m`, `scale 3`, `min 0`, `sums 2`. */
  readonly name: string;
  readonly expected: number;
  readonly actual: number;
  readonly ulps: number;
}

/** The first element whose code differs, and how far the contract's quotient was from where the code changes. */
export interface ElementDifference {
  /** In the block. */
  readonly index: number;
  readonly value: number;
  readonly expectedCode: number;
  readonly actualCode: number;
  /** What the contract rounds to the code, under its scales. */
  readonly quotient: number;
  /** Binary32 numbers between the quotient and the nearest half integer. */
  readonly ulpsFromTie: number;
}

/** A search of the contract: the winner, the next best candidate of another scale, and what lies between. */
export interface SearchReport {
  readonly of: string;
  readonly wins: SearchTrace["wins"];
  readonly tried: number;
  readonly winner: Candidate;
  readonly second?: Candidate;
  /** Binary32 numbers between the two values; absent when no other scale was tried. */
  readonly ulps?: number;
}

/** Where a block first differs, what the contract computed there, and which known causes fit. */
export interface BlockExplanation {
  /** In the row. */
  readonly block: number;
  readonly field: string;
  readonly differingBytes: number;
  readonly numbers: readonly NumberDifference[];
  readonly element?: ElementDifference;
  readonly differingCodes: number;
  /** The search of the first difference, and the closest decision of the block where that is another one. */
  readonly searches: readonly SearchReport[];
  /** Every known cause that gives the subject's bytes, or the nearest one. Empty: none comes near. */
  readonly causes: readonly Cause[];
}

/**
 * Explains the first block in which `actual` differs from `expected`, both rows of a block type with NaN scales as one
 * pattern. Undefined when they agree.
 */
export function explainRow(
  row: RowInput,
  expected: Uint8Array,
  actual: Uint8Array,
): BlockExplanation | undefined {
  const { blockBytes } = TYPES[row.type];
  const at = expected.findIndex((byte, i) => byte !== actual[i]);
  if (at < 0) return undefined;
  const b = Math.floor(at / blockBytes);
  const [ours, theirs] = [expected, actual].map((all) => all.subarray(b * blockBytes, (b + 1) * blockBytes));
  const [right, given] = [readBlock(row.type, ours), readBlock(row.type, theirs)];
  const numbers = compareNumbers(row, right, given);
  const codes = right.codes.flatMap(({ stored }, i) => (stored === given.codes[i].stored ? [] : [i]));
  const traces: SearchTrace[] = [];
  encodeRowBlock(row, b, STRICT, (trace) => traces.push(trace));
  const [first] = codes;
  return {
    block: b,
    field: fieldAt(row, at - b * blockBytes),
    differingBytes: differingBytes(ours, theirs),
    numbers,
    ...(first !== undefined && { element: describeElement(row, b, first, right, given, traces) }),
    differingCodes: codes.length,
    searches: pickSearches(row, numbers, first, traces),
    causes: findCauses(row, { expected, actual }, b),
  };
}

function fieldAt({ type }: RowInput, offset: number): string {
  const field = TYPES[type].fields.find((f) => offset >= f.offset && offset < f.offset + f.byteLength);
  return field ? `${field.name}[${offset - field.offset}]` : `byte ${offset}`;
}

function compareNumbers({ type }: RowInput, right: BlockContent, given: BlockContent): NumberDifference[] {
  const out: NumberDifference[] = [];
  const halves = TYPES[type].fields.some(({ kind }) => kind === "f16");
  for (const [name, expected] of Object.entries(right.scales)) {
    const actual = given.scales[name];
    if (Object.is(expected, actual)) continue;
    const ulps = halves ? halfSteps(expected, actual) : ulpsBetween(expected, actual);
    out.push({ name, expected, actual, ulps });
  }
  for (const [name, list] of [
    ["scale", "subScales"],
    ["min", "subMins"],
  ] as const) {
    right[list].forEach(({ value: expected }, j) => {
      const actual = given[list][j].value;
      if (expected !== actual)
        out.push({ name: `${name} ${j}`, expected, actual, ulps: Math.abs(expected - actual) });
    });
  }
  return out;
}

function halfSteps(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.NaN;
  const order = (v: number) => {
    const half = halfFromFloat(v);
    return half & 0x8000 ? -(half & 0x7fff) : half;
  };
  return Math.abs(order(a) - order(b));
}

function describeElement(
  row: RowInput,
  b: number,
  i: number,
  right: BlockContent,
  given: BlockContent,
  traces: readonly SearchTrace[],
): ElementDifference {
  const value = row.values[b * TYPES[row.type].blockElements + i];
  const quotient = quotientOf(row, value, i, right, traces);
  const tie = Math.floor(quotient) + 0.5;
  return {
    index: i,
    value,
    expectedCode: right.codes[i].stored,
    actualCode: given.codes[i].stored,
    quotient,
    ulpsFromTie: ulpsBetween(quotient, tie),
  };
}

/** The number that the contract rounds for element i: under stored scales for the K types, unrounded ones for the others. */
function quotientOf(
  row: RowInput,
  value: number,
  i: number,
  { scales, subScales, subMins }: BlockContent,
  traces: readonly SearchTrace[],
): number {
  const j = Math.floor(i / (layoutOf(row.type) as Layout).subElements);
  if (subScales.length > 0) {
    const scale = f32(scales["d"] * subScales[j].value);
    const min = subMins.length > 0 ? f32(scales["dmin"] * subMins[j].value) : 0;
    return f32(f32(value + min) / scale);
  }
  const chosen = traces[0] && winnerOf(traces[0]);
  if (chosen?.inverse === undefined) return 0;
  return f32(chosen.inverse * f32(value - (chosen.offset ?? 0)));
}

const better = (wins: SearchTrace["wins"], a: number, b: number): boolean =>
  wins === "last error" || (wins === "least error" ? a < b : a > b);

/** The first of the best candidates; of a search that takes what comes last, the last. */
function winnerOf({ wins, candidates }: SearchTrace): Candidate {
  return candidates.reduce((best, next) => (better(wins, next.value, best.value) ? next : best));
}

export function reportSearch(trace: SearchTrace): SearchReport {
  const { of, wins, candidates } = trace;
  const winner = winnerOf(trace);
  const others = candidates.filter(({ scale, min }) => scale !== winner.scale || min !== winner.min);
  const second = others.length > 0 ? winnerOf({ of, wins, candidates: others }) : undefined;
  return {
    of,
    wins,
    tried: candidates.length,
    winner,
    ...(second && { second, ulps: ulpsBetween(winner.value, second.value) }),
  };
}

function pickSearches(
  row: RowInput,
  numbers: readonly NumberDifference[],
  element: number | undefined,
  traces: readonly SearchTrace[],
): SearchReport[] {
  const reports = traces.map(reportSearch);
  const { subElements } = layoutOf(row.type) as Layout;
  const subBlock = numbers.map(({ name }) => / (\d+)$/.exec(name)?.[1]).find((j) => j !== undefined);
  const j = subBlock ?? (element === undefined ? undefined : String(Math.floor(element / subElements)));
  const own = reports.find(({ of }) => of === `sub-block ${j}` || of === "the block");
  const closest = reports
    .filter(({ ulps }) => ulps !== undefined && !Number.isNaN(ulps))
    .sort((p, q) => (p.ulps as number) - (q.ulps as number))[0];
  return [...new Set([own, closest])].filter((report) => report !== undefined);
}

const hexOf = (v: number): string => `0x${bitsOf(v).toString(16).padStart(8, "0")}`;

/** The explanation in lines of text, without indentation. */
export function formatExplanation(explanation: BlockExplanation): string[] {
  const {
    block,
    field,
    differingBytes: bytes,
    numbers,
    element,
    differingCodes,
    searches,
    causes,
  } = explanation;
  const lines = [`block ${block}: first at ${field}; ${bytes} bytes and ${differingCodes} codes differ`];
  for (const { name, expected, actual, ulps } of numbers.slice(0, 4)) {
    lines.push(
      `${name}: contract ${expected}, given ${actual}, ${ulps} ${ulps === 1 ? "step" : "steps"} apart`,
    );
  }
  if (numbers.length > 4) lines.push(`… and ${numbers.length - 4} more scales`);
  if (element) {
    const { index, value, expectedCode, actualCode, quotient, ulpsFromTie } = element;
    lines.push(
      `element ${index} = ${value} (${hexOf(value)}): contract code ${expectedCode}, given ${actualCode}; ` +
        `quotient ${quotient}, ${ulpsFromTie} ulp from a tie`,
    );
  }
  for (const { of, wins, tried, winner, second, ulps } of searches) {
    const shown = (c: Candidate) =>
      `scale ${c.scale}${c.min === undefined ? "" : `, min ${c.min}`}, ${wins.split(" ")[1]} ${c.value} (${c.step})`;
    lines.push(`${of}, ${tried} candidates, ${wins} wins: ${shown(winner)}`);
    if (second) lines.push(`  next: ${shown(second)}; ${ulps} ulp between them`);
  }
  lines.push(...causes.map(formatCause));
  if (causes.length === 0) lines.push("no known cause comes near");
  return lines;
}

export function formatCause({ cause, detail, unexplainedBytes }: Cause): string {
  const how = unexplainedBytes === 0 ? "fits" : `nearest, but ${unexplainedBytes} bytes remain`;
  return `cause: ${cause} (${detail}): ${how}`;
}
