/**
 * The golden vectors, from their packed form: u32 length of the manifest, the manifest (JSON), then the sections it
 * numbers, everything little-endian and padded to 4 bytes. Pure, so that any runtime can use it; readVectors reads the file.
 * Where the manifest has a number, it is the index of a section; a string is the base64 sha256 of bytes not stored.
 */

import type { Algorithm, IsqType } from "../quants/index.js";

type Section = number;
type Sha256 = string;
/** Whose compiled encoder made the bytes: llama.cpp (`ggml`), or candle, which mistral.rs runs (`mistralrs`). */
export type Lineage = "ggml" | "mistralrs";

interface PackedResult {
  readonly rows?: readonly number[];
  readonly data?: Section;
  readonly decoded?: Section | Sha256;
  readonly assertRows?: readonly number[];
  readonly excluded?: Readonly<Record<string, string>>;
}

interface Manifest {
  readonly format: "isq-vectors/1";
  /** sha256 of the golden files that were packed. */
  readonly source: Readonly<Record<string, string>>;
  readonly reference: Readonly<Record<string, string>>;
  /** Bytes of each section. */
  readonly sections: readonly number[];
  readonly groups: readonly {
    name: string;
    description: string;
    rows: number;
    columns: number;
    values: Section;
    importance: Section;
    importanceDescription: string;
  }[];
  /** `same`: identical to the ggml result of the same entry. */
  readonly cases: readonly {
    group: string;
    type: IsqType;
    importance?: true;
    ggml?: PackedResult;
    mistralrs?: PackedResult | "same";
  }[];
  readonly blocks: readonly { type: IsqType; data: Section; decoded: Section }[];
  readonly conversions: Readonly<
    Record<"values" | "halves" | "bfloats", Section> & Record<"allHalves" | "allBfloats", Sha256>
  >;
  readonly dots: readonly {
    type: IsqType;
    activationType: IsqType;
    columns: number;
    rows: number;
    weights: Section;
    activations: Section;
    ggml: Section;
    mistralrs: Section;
    exact: readonly number[];
    magnitude: readonly number[];
  }[];
  readonly e4m3: Section;
  readonly tensors: readonly {
    id: string;
    type: IsqType;
    algorithm: Algorithm;
    shape: readonly number[];
    values: Section;
    data: Section;
    scales?: Section;
    zeros?: Section;
    quantizeScale?: Section;
    dequantizeScale?: Section;
    decoded: Section;
  }[];
  readonly nonFinite: readonly {
    type: IsqType;
    algorithm: Lineage;
    input: string;
    values: Section;
    importance?: Section;
    data: Section;
  }[];
}

/** Expected decoded values: the values, or the sha256 of their bits with every NaN as 0x7fc00000. */
export type Decoded = { readonly values: Float32Array } | { readonly sha256: Uint8Array };

/** One encoding and decoding of the rows of a group that are not excluded. */
export interface GoldenCase {
  /** group/type/plain|importance/algorithm */
  readonly id: string;
  readonly type: IsqType;
  readonly algorithm: Lineage;
  /** Rows and columns of `values`. */
  readonly shape: readonly [number, number];
  readonly values: Float32Array;
  readonly importance: Float32Array | undefined;
  readonly data: Uint8Array;
  readonly decoded: Decoded | undefined;
  /** True for a `mistralrs` case recorded only as identical to the ggml one. */
  readonly sameAsGgml: boolean;
}

/** HQQ and FP8: the whole tensor. */
export interface GoldenTensor {
  readonly id: string;
  readonly type: IsqType;
  readonly algorithm: Algorithm;
  readonly shape: readonly number[];
  readonly values: Float32Array;
  readonly data: Uint8Array;
  readonly scales?: Float32Array;
  readonly zeros?: Float32Array;
  readonly quantizeScale?: number;
  readonly dequantizeScale?: number;
  readonly decoded: Float32Array;
}

/**
 * Rows of a type and of its dot partner, `rows` of each, and their dot products in the order of steps of each lineage.
 */
export interface GoldenDot {
  readonly type: IsqType;
  readonly activationType: IsqType;
  readonly rows: number;
  readonly weights: Uint8Array;
  readonly activations: Uint8Array;
  readonly expected: Readonly<Record<Lineage, Float32Array>>;
  /** Dot product of the decoded rows in binary64, and the sum of its terms' magnitudes. */
  readonly exact: readonly number[];
  readonly magnitude: readonly number[];
}

/**
 * The golden set: inputs by group, what each encoder makes of them, blocks to decode, conversions, and dot products.
 */
export interface Vectors {
  readonly source: Readonly<Record<string, string>>;
  readonly groups: readonly { name: string; description: string; values: Float32Array; columns: number }[];
  readonly cases: readonly GoldenCase[];
  /** Rows left out of a case, with the reason. */
  readonly excluded: readonly { id: string; row: number; reason: string }[];
  /** Random bytes and what they decode to. */
  readonly blocks: readonly { type: IsqType; data: Uint8Array; decoded: Float32Array }[];
  readonly conversions: {
    readonly values: Float32Array;
    readonly halves: Uint16Array;
    readonly bfloats: Uint16Array;
    /** sha256 of all 65,536 patterns decoded in order, NaN as 0x7fc00000. */
    readonly allHalves: Uint8Array;
    readonly allBfloats: Uint8Array;
  };
  readonly dots: readonly GoldenDot[];
  /** Value of each of the 256 E4M3 codes. */
  readonly e4m3: Float32Array;
  readonly tensors: readonly GoldenTensor[];
  /** What every build of the two references makes of NaN and infinities: observed, not part of the golden count. */
  readonly nonFinite: readonly Omit<GoldenCase, "decoded" | "sameAsGgml">[];
}

const base64 = (text: string): Uint8Array => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** Reads the unpacked bytes of vectors.br. */
export function parseVectors(unpacked: Uint8Array): Vectors {
  const bytes = unpacked.slice(); // aligned, whatever it was a part of
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const manifest: Manifest = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  if (manifest.format !== "isq-vectors/1") throw new Error(`unknown format ${manifest.format}`);
  const section = sectionReader(bytes, 4 + padded(length), manifest.sections);
  return {
    source: manifest.source,
    groups: manifest.groups.map((group) => ({ ...group, values: section.floats(group.values) })),
    ...parseCases(manifest, section),
    blocks: manifest.blocks.map(({ type, data, decoded }) => ({
      type,
      data: section.bytes(data),
      decoded: section.floats(decoded),
    })),
    conversions: {
      values: section.floats(manifest.conversions.values),
      halves: section.words(manifest.conversions.halves),
      bfloats: section.words(manifest.conversions.bfloats),
      allHalves: base64(manifest.conversions.allHalves),
      allBfloats: base64(manifest.conversions.allBfloats),
    },
    dots: manifest.dots.map((dot) => ({
      ...dot,
      weights: section.bytes(dot.weights),
      activations: section.bytes(dot.activations),
      expected: { ggml: section.floats(dot.ggml), mistralrs: section.floats(dot.mistralrs) },
    })),
    e4m3: section.floats(manifest.e4m3),
    tensors: manifest.tensors.map((tensor) => parseTensor(tensor, section)),
    nonFinite: manifest.nonFinite.map(({ type, algorithm, input, values, importance, data }) => ({
      id: `${input}/${type}/${importance === undefined ? "plain" : "importance"}/${algorithm}`,
      type,
      algorithm,
      shape: [1, section.floats(values).length],
      values: section.floats(values),
      importance: importance === undefined ? undefined : section.floats(importance),
      data: section.bytes(data),
    })),
  };
}

const padded = (byteLength: number): number => Math.ceil(byteLength / 4) * 4;

interface SectionReader {
  bytes(index: Section): Uint8Array;
  words(index: Section): Uint16Array;
  floats(index: Section): Float32Array;
}

function sectionReader(bytes: Uint8Array, start: number, lengths: readonly number[]): SectionReader {
  const offsets: number[] = [];
  let offset = start;
  for (const byteLength of lengths) {
    offsets.push(offset);
    offset += padded(byteLength);
  }
  if (offset !== bytes.length) throw new Error(`the sections end at ${offset}, the data at ${bytes.length}`);
  return {
    bytes: (index) => bytes.subarray(offsets[index], offsets[index] + lengths[index]),
    words: (index) => new Uint16Array(bytes.buffer, offsets[index], lengths[index] / 2),
    floats: (index) => new Float32Array(bytes.buffer, offsets[index], lengths[index] / 4),
  };
}

function parseCases(manifest: Manifest, section: SectionReader): Pick<Vectors, "cases" | "excluded"> {
  const groups = new Map(manifest.groups.map((group) => [group.name, group]));
  const cases: GoldenCase[] = [];
  const excluded: { id: string; row: number; reason: string }[] = [];
  for (const entry of manifest.cases) {
    const group = groups.get(entry.group);
    if (!group) throw new Error(`no group ${entry.group}`);
    const setting = entry.importance ? "importance" : "plain";
    for (const algorithm of ["ggml", "mistralrs"] as const) {
      const packed = entry[algorithm];
      if (!packed) continue;
      const result = packed === "same" ? (entry.ggml as PackedResult) : packed;
      const id = `${entry.group}/${entry.type}/${setting}/${algorithm}`;
      for (const [row, reason] of Object.entries(result.excluded ?? {})) {
        excluded.push({ id, row: Number(row), reason });
      }
      if (result.data === undefined) continue;
      const rows = result.rows ?? [...Array(group.rows).keys()];
      cases.push({
        id,
        type: entry.type,
        algorithm,
        shape: [rows.length, group.columns],
        values: pickRows(section.floats(group.values), group.columns, rows),
        importance: entry.importance && section.floats(group.importance),
        data: section.bytes(result.data),
        decoded: parseDecoded(result.decoded, section),
        sameAsGgml: packed === "same",
      });
    }
  }
  return { cases, excluded };
}

function pickRows(values: Float32Array, columns: number, rows: readonly number[]): Float32Array {
  const out = new Float32Array(rows.length * columns);
  rows.forEach((row, i) => {
    out.set(values.subarray(row * columns, (row + 1) * columns), i * columns);
  });
  return out;
}

function parseDecoded(decoded: Section | Sha256 | undefined, section: SectionReader): Decoded | undefined {
  if (decoded === undefined) return undefined;
  return typeof decoded === "string" ? { sha256: base64(decoded) } : { values: section.floats(decoded) };
}

function parseTensor(tensor: Manifest["tensors"][number], section: SectionReader): GoldenTensor {
  const { id, type, algorithm, shape, scales, zeros, quantizeScale, dequantizeScale } = tensor;
  return {
    id,
    type,
    algorithm,
    shape,
    values: section.floats(tensor.values),
    data: section.bytes(tensor.data),
    decoded: section.floats(tensor.decoded),
    ...(scales !== undefined && { scales: section.floats(scales) }),
    ...(zeros !== undefined && { zeros: section.floats(zeros) }),
    ...(quantizeScale !== undefined && { quantizeScale: section.floats(quantizeScale)[0] }),
    ...(dequantizeScale !== undefined && { dequantizeScale: section.floats(dequantizeScale)[0] }),
  };
}
