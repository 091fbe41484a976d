/**
 * One row per quantization type. Data without code: names, sizes, the field map, the dot partner and what each encoder
 * lineage can do. Everything else (help texts, size arithmetic, the README table, tests) is derived from these rows.
 *
 * Layouts: ggml-common.h (ggml-org/ggml d99724f2) for the block types, mistral.rs for HQQ and FP8.
 */

/** How a field of a block is encoded. */
export type FieldKind = "f16" | "f32" | "i8" | "i16" | "u32" | "bits";

/** A field of a block, as it lies there. */
export interface Field {
  readonly name: string;
  /** Bytes from the start of the block. */
  readonly offset: number;
  readonly byteLength: number;
  readonly kind: FieldKind;
}

/** `block`: self-contained blocks along a row; `group`: HQQ's groups with side arrays; `tensor`: one scale for all. */
export type Family = "block" | "group" | "tensor";

/** Encoder lineages: which one fills the bytes of a layout. Each type has its own list, the default first. */
export type Algorithm = "ggml" | "mistralrs" | "hqq" | "ocp";

interface Row {
  readonly name: string;
  /** File stem of the codec in src/quants, assembly and gpu; also the GGUF-style alias. */
  readonly stem: string;
  /** ggml's name and number, where ggml has the type. */
  readonly ggml: { readonly name: string; readonly id: number } | null;
  readonly family: Family;
  readonly blockElements: number;
  /** Bytes per block, side arrays included. */
  readonly blockBytes: number;
  readonly fields: readonly Field[];
  /** The type activations are quantized to for the integer dot product; null: decoded to f32 instead. */
  readonly dotPartner: string | null;
  /** Encoders, the default first. */
  readonly algorithms: readonly Algorithm[];
  /** Encoders that take an importance vector. */
  readonly importance: readonly Algorithm[];
  /** Encoders whose result for infinite or NaN weights is defined. */
  readonly rawNonFinite: readonly Algorithm[];
  /** What ISQ uses instead when a row is not a multiple of `blockElements`; null: the tensor is skipped. */
  readonly fallback: string | null;
  /** The layout in words, for people. */
  readonly summary: string;
}

const f16 = (name: string, offset: number): Field => ({ name, offset, byteLength: 2, kind: "f16" });
const field = (name: string, offset: number, byteLength: number, kind: FieldKind = "bits"): Field => ({
  name,
  offset,
  byteLength,
  kind,
});

const BOTH = ["ggml", "mistralrs"] as const;
const GGML = ["ggml"] as const;
const MISTRALRS = ["mistralrs"] as const;
const NONE = [] as const;

export const TABLE = [
  {
    name: "Q4_0",
    stem: "q4_0",
    ggml: { name: "Q4_0", id: 2 },
    family: "block",
    blockElements: 32,
    blockBytes: 18,
    fields: [f16("d", 0), field("qs", 2, 16)],
    dotPartner: "Q8_0",
    algorithms: BOTH,
    importance: GGML,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "4 bits, one scale per 32",
  },
  {
    name: "Q4_1",
    stem: "q4_1",
    ggml: { name: "Q4_1", id: 3 },
    family: "block",
    blockElements: 32,
    blockBytes: 20,
    fields: [f16("d", 0), f16("m", 2), field("qs", 4, 16)],
    dotPartner: "Q8_1",
    algorithms: BOTH,
    importance: GGML,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "4 bits, scale and minimum per 32",
  },
  {
    name: "Q5_0",
    stem: "q5_0",
    ggml: { name: "Q5_0", id: 6 },
    family: "block",
    blockElements: 32,
    blockBytes: 22,
    fields: [f16("d", 0), field("qh", 2, 4, "u32"), field("qs", 6, 16)],
    dotPartner: "Q8_0",
    algorithms: BOTH,
    importance: GGML,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "5 bits, one scale per 32",
  },
  {
    name: "Q5_1",
    stem: "q5_1",
    ggml: { name: "Q5_1", id: 7 },
    family: "block",
    blockElements: 32,
    blockBytes: 24,
    fields: [f16("d", 0), f16("m", 2), field("qh", 4, 4, "u32"), field("qs", 8, 16)],
    dotPartner: "Q8_1",
    algorithms: BOTH,
    importance: GGML,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "5 bits, scale and minimum per 32",
  },
  {
    name: "Q8_0",
    stem: "q8_0",
    ggml: { name: "Q8_0", id: 8 },
    family: "block",
    blockElements: 32,
    blockBytes: 34,
    fields: [f16("d", 0), field("qs", 2, 32, "i8")],
    dotPartner: "Q8_0",
    algorithms: BOTH,
    importance: NONE,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "8 bits, one scale per 32",
  },
  {
    name: "Q8_1",
    stem: "q8_1",
    ggml: { name: "Q8_1", id: 9 },
    family: "block",
    blockElements: 32,
    blockBytes: 36,
    fields: [f16("d", 0), f16("s", 2), field("qs", 4, 32, "i8")],
    dotPartner: "Q8_1",
    algorithms: BOTH,
    importance: NONE,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "8 bits, scale and sum per 32",
  },
  {
    name: "Q2K",
    stem: "q2_k",
    ggml: { name: "Q2_K", id: 10 },
    family: "block",
    blockElements: 256,
    blockBytes: 84,
    fields: [field("scales", 0, 16), field("qs", 16, 64), f16("d", 80), f16("dmin", 82)],
    dotPartner: "Q8K",
    algorithms: BOTH,
    importance: BOTH,
    rawNonFinite: BOTH,
    fallback: "Q4_0",
    summary: "2 bits, 4-bit scales and minima per 16, two scales per 256",
  },
  {
    name: "Q3K",
    stem: "q3_k",
    ggml: { name: "Q3_K", id: 11 },
    family: "block",
    blockElements: 256,
    blockBytes: 110,
    fields: [field("hmask", 0, 32), field("qs", 32, 64), field("scales", 96, 12), f16("d", 108)],
    dotPartner: "Q8K",
    algorithms: BOTH,
    importance: BOTH,
    rawNonFinite: BOTH,
    fallback: "Q4_0",
    summary: "3 bits, 6-bit scales per 16, one scale per 256",
  },
  {
    name: "Q4K",
    stem: "q4_k",
    ggml: { name: "Q4_K", id: 12 },
    family: "block",
    blockElements: 256,
    blockBytes: 144,
    fields: [f16("d", 0), f16("dmin", 2), field("scales", 4, 12), field("qs", 16, 128)],
    dotPartner: "Q8K",
    algorithms: BOTH,
    importance: BOTH,
    rawNonFinite: BOTH,
    fallback: "Q4_1",
    summary: "4 bits, 6-bit scales and minima per 32, two scales per 256",
  },
  {
    name: "Q5K",
    stem: "q5_k",
    ggml: { name: "Q5_K", id: 13 },
    family: "block",
    blockElements: 256,
    blockBytes: 176,
    fields: [f16("d", 0), f16("dmin", 2), field("scales", 4, 12), field("qh", 16, 32), field("qs", 48, 128)],
    dotPartner: "Q8K",
    algorithms: BOTH,
    importance: BOTH,
    rawNonFinite: BOTH,
    fallback: "Q5_0",
    summary: "5 bits, 6-bit scales and minima per 32, two scales per 256",
  },
  {
    name: "Q6K",
    stem: "q6_k",
    ggml: { name: "Q6_K", id: 14 },
    family: "block",
    blockElements: 256,
    blockBytes: 210,
    fields: [field("ql", 0, 128), field("qh", 128, 64), field("scales", 192, 16, "i8"), f16("d", 208)],
    dotPartner: "Q8K",
    algorithms: BOTH,
    importance: BOTH,
    rawNonFinite: BOTH,
    fallback: "Q5_1",
    summary: "6 bits, 8-bit scales per 16, one scale per 256",
  },
  {
    name: "Q8K",
    stem: "q8_k",
    ggml: { name: "Q8_K", id: 15 },
    family: "block",
    blockElements: 256,
    blockBytes: 292,
    fields: [field("d", 0, 4, "f32"), field("qs", 4, 256, "i8"), field("bsums", 260, 32, "i16")],
    dotPartner: "Q8K",
    algorithms: BOTH,
    importance: NONE,
    rawNonFinite: BOTH,
    fallback: "Q8_1",
    summary: "8 bits, one f32 scale and sixteen sums per 256",
  },
  {
    name: "HQQ4",
    stem: "hqq4",
    ggml: null,
    family: "group",
    blockElements: 64,
    blockBytes: 40,
    fields: [field("codes", 0, 32), field("scale", 32, 4, "f32"), field("zero", 36, 4, "f32")],
    dotPartner: null,
    algorithms: ["mistralrs", "hqq"],
    importance: NONE,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "4 bits, f32 scale and zero per group of 64",
  },
  {
    name: "HQQ8",
    stem: "hqq8",
    ggml: null,
    family: "group",
    blockElements: 64,
    blockBytes: 72,
    fields: [field("codes", 0, 64), field("scale", 64, 4, "f32"), field("zero", 68, 4, "f32")],
    dotPartner: null,
    algorithms: ["mistralrs", "hqq"],
    importance: NONE,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "8 bits, f32 scale and zero per group of 64",
  },
  {
    name: "FP8",
    stem: "fp8",
    ggml: null,
    family: "tensor",
    blockElements: 1,
    blockBytes: 1,
    fields: [field("code", 0, 1)],
    dotPartner: null,
    algorithms: ["ocp", "mistralrs"],
    importance: NONE,
    rawNonFinite: MISTRALRS,
    fallback: null,
    summary: "E4M3 floats, one scale per tensor",
  },
] as const satisfies readonly Row[];

/** The public name of a quantization type. */
export type IsqType = (typeof TABLE)[number]["name"];

/** A row of the table with its literal types widened. */
export interface TypeRow extends Row {
  readonly name: IsqType;
  readonly dotPartner: IsqType | null;
  readonly fallback: IsqType | null;
}

const ROWS: readonly TypeRow[] = TABLE;

/** The 15 public names, in the order of the table. */
export const TYPE_NAMES: readonly IsqType[] = ROWS.map((row) => row.name);

/** The table by name. */
export const TYPES: Readonly<Record<IsqType, TypeRow>> = Object.freeze(
  Object.fromEntries(ROWS.map((row) => [row.name, row])) as Record<IsqType, TypeRow>,
);
