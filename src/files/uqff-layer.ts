/**
 * What a UQFF file holds: layers, each a matrix in one of several formats, perhaps with a bias. Two generations say it in
 * different ways: numbered blobs before version 1 (uqff-blobs.ts), named tensors since (uqff-named.ts).
 *
 * Source: mistral.rs, docs/UQFF/LAYOUT.md of version 0.1 and the reference page "UQFF format" with mistralrs-quant/src/uqff
 * of version 1.2.
 */

import type { DenseType } from "../backends/backend.js";
import { type ErrorDetails, type ErrorTag, IsqError } from "../errors.js";
import type { Limits } from "../limits.js";
import { type IsqType, TYPES } from "../quants/table.js";
import { ggmlByteLength, ggmlTypeOf } from "./ggml-types.js";
import { quote } from "./json.js";
import type { ByteSource } from "./source.js";

/** The version that is written, and the newest of its major number that is read. */
export const UQFF_VERSION = { major: 1, minor: 2, patch: 0 } as const;

/** By their numbers. The first four are of both generations. */
export const UQFF_FORMATS = ["gguf", "unquantized", "hqq", "fp8", "afq", "f8q8", "mxfp4"] as const;
export type UqffFormat = (typeof UQFF_FORMATS)[number];

/** Element types by their numbers, under the names that safetensors gives them. */
export const UQFF_DTYPES = [
  "U8",
  "U32",
  "I32",
  "I64",
  "F16",
  "BF16",
  "F32",
  "F64",
  "I16",
  "F8_E4M3",
] as const;

/** Bytes of a shard. */
export interface UqffRange {
  readonly source: ByteSource;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Numbers of a shard. */
export interface UqffVector extends UqffRange {
  readonly dtype: string;
  readonly shape: readonly number[];
}

export interface UqffLayer {
  /** Module path (`model.layers.0.self_attn.q_proj`), or before version 1 the place in the list of layers. */
  readonly key: string;
  readonly format: UqffFormat;
  /** As reports name it: `q4k`, `hqq8`, `unquant`. */
  readonly stored: string;
  /** Null for what can be listed and not used; `unusable` says why. */
  readonly type: IsqType | DenseType | null;
  readonly unusable?: string;
  /** [outputs, inputs], or [experts, outputs, inputs]. */
  readonly shape: readonly number[];
  /** Blocks, packed codes or elements. */
  readonly data: UqffRange;
  /** HQQ: one of each per group. */
  readonly scales?: UqffVector;
  readonly zeros?: UqffVector;
  /** FP8. */
  readonly quantizeScale?: number;
  readonly dequantizeScale?: number;
  readonly bias?: UqffVector;
}

/** What is read of HQQ's settings. */
export interface HqqSettings {
  readonly bits: number;
  readonly groupSize: number;
  readonly axis: number;
}

/** What a layer is checked against. */
export interface LayerContext {
  readonly file: string;
  readonly key: string;
  readonly limits: Limits;
}

/** How reports name a type. */
export function storedName(type: IsqType | DenseType): string {
  return type.toLowerCase();
}

const DENSE: readonly string[] = ["F32", "F16", "BF16"] satisfies DenseType[];

export function isDenseName(dtype: string): dtype is DenseType {
  return DENSE.includes(dtype);
}

/** Elements of a shape. Throws `uqff/size` for one that is none. */
export function countElements(shape: readonly number[], context: LayerContext): number {
  const { tensorRank, tensorElements } = context.limits;
  const count = shape.reduce((product, size) => product * size, 1);
  if (shape.length <= tensorRank && count <= tensorElements && Number.isSafeInteger(count)) return count;
  return refuseLayer(context, "uqff/size", `has the impossible shape [${shape.join(", ")}]`, {
    field: "shape",
    value: shape,
    limit: tensorElements,
  });
}

/** Blocks of a ggml type. `code` is ggml's number. */
export function ggufLayer(
  context: LayerContext,
  code: number,
  shape: readonly number[],
  data: UqffRange,
): UqffLayer {
  const found = ggmlTypeOf(code);
  const type = found && (found.isq ?? (isDenseName(found.name) ? found.name : null));
  if (!found || !type) {
    return refuseLayer(context, "uqff/type", `has the unknown type ${code}`, { field: "dtype", value: code });
  }
  countElements(shape, context);
  const wanted = ggmlByteLength(found, shape);
  if (wanted !== data.byteLength) refuseSize(context, type, shape, data.byteLength, wanted);
  return { key: context.key, format: "gguf", stored: storedName(type), type, shape, data };
}

/** A matrix as it was. */
export function plainLayer(context: LayerContext, vector: UqffVector): UqffLayer {
  const { dtype, shape } = vector;
  const base = { key: context.key, format: "unquantized", stored: "unquant", shape, data: vector } as const;
  if (isDenseName(dtype)) return { ...base, type: dtype };
  return { ...base, type: null, unusable: `its elements are ${dtype}` };
}

export function hqqLayer(
  context: LayerContext,
  { bits, groupSize, axis }: HqqSettings,
  shape: readonly number[],
  parts: { readonly data: UqffVector; readonly scales: UqffVector; readonly zeros: UqffVector },
): UqffLayer {
  const { data, scales, zeros } = parts;
  const elements = countElements(shape, context);
  const base = { key: context.key, format: "hqq", stored: `hqq${bits}`, shape, data, scales, zeros } as const;
  const type = bits === 4 ? "HQQ4" : bits === 8 ? "HQQ8" : null;
  if (type === null || groupSize !== TYPES[type].blockElements || axis !== 0) {
    const unusable = `it has ${bits} bits in groups of ${groupSize} along axis ${axis}; groups of 64 along axis 0 with 4 or 8 bits are read`;
    return { ...base, type: null, unusable };
  }
  const groups = elements / groupSize;
  const wanted = (elements * bits) / 8;
  if (data.dtype !== "U8" || data.byteLength !== wanted || !Number.isInteger(groups)) {
    refuseSize(context, type, shape, data.byteLength, wanted);
  }
  for (const [name, vector] of [
    ["scales", scales],
    ["zeros", zeros],
  ] as const) {
    const count = vector.shape.reduce((product, size) => product * size, 1);
    if (isDenseName(vector.dtype) && count === groups) continue;
    const found = `${vector.dtype} [${vector.shape.join(", ")}]`;
    const message = `has ${name} ${found} for ${groups} groups`;
    refuseLayer(context, "uqff/size", message, { field: name, value: found, limit: groups });
  }
  if (shape.length === 3) {
    return { ...base, type: null, unusable: "its groups mix the experts that it holds" };
  }
  return { ...base, type };
}

export function fp8Layer(
  context: LayerContext,
  vector: UqffVector,
  scales: { readonly quantize: number; readonly dequantize: number },
): UqffLayer {
  const { dtype, shape } = vector;
  if (dtype !== "F8_E4M3") {
    refuseLayer(context, "uqff/type", `is fp8 with elements of the type ${dtype}`, {
      field: "weight",
      value: dtype,
    });
  }
  countElements(shape, context);
  return {
    key: context.key,
    format: "fp8",
    stored: "fp8",
    type: "FP8",
    shape,
    data: vector,
    quantizeScale: scales.quantize,
    dequantizeScale: scales.dequantize,
  };
}

/** Throws unless a vector can be a bias. */
export function checkBias(context: LayerContext, { dtype, shape }: UqffVector): void {
  if (isDenseName(dtype)) return;
  const found = `${dtype} [${shape.join(", ")}]`;
  refuseLayer(context, "uqff/type", `has a bias of the type ${dtype}`, { field: "bias", value: found });
}

export function refuseSize(
  context: LayerContext,
  type: string,
  shape: readonly number[],
  value: number,
  limit: number | null,
): never {
  const wanted = limit === null ? "which no whole number of blocks makes" : `which takes ${limit} bytes`;
  const message = `is ${type} [${shape.join(", ")}], ${wanted}, and has ${value}`;
  return refuseLayer(context, "uqff/size", message, { field: "weight", value, limit });
}

export function refuseLayer(
  { file, key }: Pick<LayerContext, "file" | "key">,
  tag: ErrorTag,
  problem: string,
  details: ErrorDetails,
): never {
  throw new IsqError(tag, `${file}: ${quote(key)} ${problem}`, { file, tensor: key, ...details });
}
