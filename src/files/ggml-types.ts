/**
 * Every tensor type a GGUF file may name, by ggml's number. Those of quants/table.ts take their sizes from there; the
 * others can be listed, sized and copied, and F32, F16 and BF16 read.
 */

import { type IsqType, TYPES } from "../quants/table.js";

export interface GgmlType {
  readonly id: number;
  /** ggml's name, in capitals: `Q4_K`, `IQ2_XXS`. */
  readonly name: string;
  /** Elements per block; 0 for types that ggml removed, whose layout nobody reads any more. */
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Our name of the type, where we can decode it. */
  readonly isq: IsqType | null;
}

/** Types that the table of quants/ does not have: number, name, elements and bytes per block. */
const OTHERS: readonly (readonly [id: number, name: string, elements: number, bytes: number])[] = [
  [0, "F32", 1, 4],
  [1, "F16", 1, 2],
  [4, "Q4_2", 0, 0],
  [5, "Q4_3", 0, 0],
  [16, "IQ2_XXS", 256, 66],
  [17, "IQ2_XS", 256, 74],
  [18, "IQ3_XXS", 256, 98],
  [19, "IQ1_S", 256, 50],
  [20, "IQ4_NL", 32, 18],
  [21, "IQ3_S", 256, 110],
  [22, "IQ2_S", 256, 82],
  [23, "IQ4_XS", 256, 136],
  [24, "I8", 1, 1],
  [25, "I16", 1, 2],
  [26, "I32", 1, 4],
  [27, "I64", 1, 8],
  [28, "F64", 1, 8],
  [29, "IQ1_M", 256, 56],
  [30, "BF16", 1, 2],
  [31, "Q4_0_4_4", 0, 0],
  [32, "Q4_0_4_8", 0, 0],
  [33, "Q4_0_8_8", 0, 0],
  [34, "TQ1_0", 256, 54],
  [35, "TQ2_0", 256, 66],
  [36, "IQ4_NL_4_4", 0, 0],
  [37, "IQ4_NL_4_8", 0, 0],
  [38, "IQ4_NL_8_8", 0, 0],
  [39, "MXFP4", 32, 17],
  [40, "NVFP4", 64, 36],
  [41, "Q1_0", 128, 18],
  [42, "Q2_0", 64, 18],
];

/** In the order of their numbers. */
export const GGML_TYPES: readonly GgmlType[] = Object.freeze(
  [
    ...OTHERS.map(([id, name, blockElements, blockBytes]) => ({
      id,
      name,
      blockElements,
      blockBytes,
      isq: null,
    })),
    ...Object.values(TYPES).flatMap(({ ggml, name, blockElements, blockBytes }) =>
      ggml === null ? [] : [{ ...ggml, blockElements, blockBytes, isq: name }],
    ),
  ].sort((a, b) => a.id - b.id),
);

const BY_ID = new Map(GGML_TYPES.map((type) => [type.id, type]));
const BY_NAME = new Map(GGML_TYPES.map((type) => [type.name, type]));

/** The type of a number, or undefined for numbers that ggml has not given out. */
export function ggmlTypeOf(id: number): GgmlType | undefined {
  return BY_ID.get(id);
}

/** The type of a name: ggml's in capitals, or ours (`Q4K`). */
export function ggmlTypeNamed(name: string): GgmlType | undefined {
  return BY_NAME.get(name) ?? GGML_TYPES.find(({ isq }) => isq === name);
}

/** Bytes of a tensor (row-major, blocks along the last dimension), or null where they are not whole or not safe. */
export function ggmlByteLength(type: GgmlType, shape: readonly number[]): number | null {
  const { blockElements, blockBytes } = type;
  const row = shape.at(-1) ?? 1;
  if (blockElements === 0 || row % blockElements !== 0) return null;
  let bytes = (row / blockElements) * blockBytes;
  for (const size of shape.slice(0, -1)) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) return null;
  }
  return Number.isSafeInteger(bytes) ? bytes : null;
}
