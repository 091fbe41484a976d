/** What each format's reader tells of a file, as inspect.ts shows it. */

import { narrow } from "./dense.js";
import { ggmlTypeNamed } from "./files/ggml-types.js";
import { openGguf } from "./files/gguf.js";
import type { GgufArray, GgufValue } from "./files/gguf-values.js";
import { meansOf, openImatrix } from "./files/imatrix.js";
import { openSafetensors, SAFETENSORS_BITS } from "./files/safetensors.js";
import { readQuantizedEntries } from "./files/safetensors-quantized.js";
import type { ByteSource } from "./files/source.js";
import { openUqff, type UqffLayer, type UqffVector } from "./files/uqff.js";
import type { InspectedTensor, Inspection } from "./inspect.js";
import { LIMITS } from "./limits.js";

export async function inspectGguf(source: ByteSource): Promise<Inspection> {
  const { metadata, tensors, warnings } = await openGguf(source);
  return {
    metadata: [...metadata].map(([key, value]) => ({
      key,
      type: value.type === "array" ? `array of ${value.items}` : value.type,
      value: plainValue(value),
    })),
    tensors: [...tensors.values()].map(({ name, dtype, shape, byteOffset, byteLength }) => {
      const type = ggmlTypeNamed(dtype);
      const bits = type && type.blockElements > 0 ? (type.blockBytes * 8) / type.blockElements : null;
      return { name, type: type?.isq ?? dtype, shape, byteOffset, byteLength, bitsPerWeight: bits };
    }),
    warnings,
  };
}

export async function inspectSafetensors(source: ByteSource): Promise<Inspection> {
  const { metadata, tensors } = await openSafetensors(source);
  const quantized = readQuantizedEntries(source.name, { metadata, tensors }, LIMITS);
  return {
    metadata: [...metadata].map(([key, value]) => ({ key, type: "string", value })),
    tensors: [...tensors.values()].map(({ dtype, ...place }) => {
      const own = quantized.get(place.name);
      if (!own) return { ...place, type: dtype, bitsPerWeight: SAFETENSORS_BITS[dtype] };
      return { ...place, ...own, bitsPerWeight: bitsOf(own.shape, place.byteLength) };
    }),
    warnings: [],
  };
}

/** One shard: layers that need another for their parts are listed as they are. */
export async function inspectUqff(source: ByteSource): Promise<Inspection> {
  const { version, numbered, layers, metadata, shards, warnings } = await openUqff([source], { part: true });
  const values = [
    { key: "uqff.version", type: "version", value: version },
    ...[...metadata].map(([key, value]) => ({ key, type: "string", value })),
  ].filter(({ key }, i, all) => all.findIndex((other) => other.key === key) === i);
  const tensors = numbered
    ? [...layers.values()].flatMap(blobTensors)
    : [...shards[0].tensors.values()].map(({ dtype, ...place }): InspectedTensor => {
        const layer = layers.get(place.name.replace(/\.weight$/, ""));
        const own = layer && place.name.endsWith(".weight") ? weightOf(layer) : null;
        return { ...place, type: dtype, bitsPerWeight: SAFETENSORS_BITS[dtype], ...own };
      });
  return { metadata: values, tensors, warnings };
}

function weightOf({ type, stored, shape, data }: UqffLayer) {
  return { type: type ?? stored, shape, bitsPerWeight: bitsOf(shape, data.byteLength) };
}

/** The parts of a numbered layer. */
function blobTensors(layer: UqffLayer): InspectedTensor[] {
  const { key, data, scales, zeros, bias } = layer;
  const { byteOffset, byteLength } = data;
  const parts: [string, UqffVector | undefined][] = [
    ["scales", scales],
    ["zeros", zeros],
    ["bias", bias],
  ];
  return [
    { name: key, byteOffset, byteLength, ...weightOf(layer) },
    ...parts.flatMap(([suffix, vector]): InspectedTensor[] => {
      if (!vector) return [];
      const { dtype, shape, byteOffset, byteLength } = vector;
      const bitsPerWeight = SAFETENSORS_BITS[dtype];
      return [{ name: `${key}.${suffix}`, type: dtype, shape, byteOffset, byteLength, bitsPerWeight }];
    }),
  ];
}

/** The means of every entry. */
export async function inspectImatrix(source: ByteSource): Promise<Inspection> {
  const { format, entries, datasets, chunks, chunkTokens } = await openImatrix(source);
  const means = new Map([...entries].map(([name, entry]) => [name, narrow(meansOf(entry), "F32")]));
  const told = { "imatrix.format": format, "imatrix.datasets": datasets, chunks, chunkTokens };
  const metadata = Object.entries(told)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ({ key, type: Array.isArray(value) ? "array of string" : typeof value, value }));
  return {
    metadata,
    tensors: [...entries].map(([name, { sums, counts }]) => {
      const shape = [counts.length, sums.length / counts.length];
      const byteLength = means.get(name)!.byteLength;
      return { name, type: "F32", shape, byteOffset: null, byteLength, bitsPerWeight: 32 };
    }),
    warnings: [],
    readRange: async ({ name }, start, end) => means.get(name)!.subarray(start, end),
  };
}

function bitsOf(shape: readonly number[], byteLength: number): number | null {
  const elements = shape.reduce((product, size) => product * size, 1);
  return elements === 0 ? null : (byteLength * 8) / elements;
}

function plainValue(value: GgufValue): unknown {
  if (value.type === "array") return plainArray(value);
  return plainItem(value.value);
}

function plainArray(array: GgufArray): unknown[] {
  if (array.items === "array") return array.values.map(plainArray);
  if (array.items === "bool") return Array.from(array.values, (value) => value !== 0);
  return Array.from<unknown>(array.values as ArrayLike<unknown>).map(plainItem);
}

/** What JSON has no numbers for is its text. */
function plainItem(value: unknown): unknown {
  if (typeof value === "bigint") return plainInteger(value);
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}

function plainInteger(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}
