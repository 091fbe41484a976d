/**
 * UQFF before version 1: tensors "0", "1", … of bytes, one for each layer of mistral.rs's list. A blob starts with the
 * version (major · 2^16 + minor · 2^8 + patch) and the format; a "tensor" inside is byte length, element type, rank, sizes
 * (all u32) and data. All is little-endian.
 */

import type { Limits } from "../limits.js";
import { type Cursor, openCursor } from "./cursor.js";
import type { Safetensors, SafetensorsEntry } from "./safetensors.js";
import { readRange } from "./source.js";
import {
  checkBias,
  fp8Layer,
  ggufLayer,
  hqqLayer,
  type LayerContext,
  plainLayer,
  refuseLayer,
  refuseSize,
  UQFF_DTYPES,
  UQFF_FORMATS,
  type UqffLayer,
  type UqffRange,
  type UqffVector,
} from "./uqff-layer.js";

/** Bytes per element, by number. */
const DTYPE_BYTES = [1, 4, 4, 8, 2, 2, 4, 8, 2, 1];
const FORMATS = UQFF_FORMATS.slice(0, 4);
/** Read at once: what is in front of the data of most blobs. */
const WINDOW_BYTES = 128;

/** Reads one layer of a numbered file; no data. Throws `uqff/*`, `source/*`. */
export async function readBlob(
  shard: Safetensors,
  entry: SafetensorsEntry,
  limits: Limits,
): Promise<{ layer: UqffLayer; version: string }> {
  const { name: key, dtype, shape } = entry;
  const context = { file: shard.source.name, key, limits };
  if (dtype !== "U8" || shape.length !== 1) {
    const value = `${dtype} [${shape.join(", ")}]`;
    refuseLayer(context, "uqff/format", `is ${value}, not bytes`, { field: "dtype", value });
  }
  const blob = openBlob(context, { source: shard.source, ...entry });
  const head = await blob.fields(5);
  const word = head.u32("the version");
  const version = [word >>> 16, (word >>> 8) & 255, word & 255].join(".");
  if (word >>> 16 !== 0) {
    const message = `has the UQFF version ${version}, and blobs of 0.1 are read`;
    refuseLayer(context, "uqff/version", message, { field: "version", value: version, limit: "0" });
  }
  const number = head.u8("the format");
  const format = FORMATS[number] as keyof typeof READERS | undefined;
  if (format === undefined) {
    const known = FORMATS.map((name, i) => `${i} ${name}`).join(", ");
    const message = `has the unknown format ${number}; there are ${known}`;
    return refuseLayer(context, "uqff/format", message, { field: "format", value: number, limit: FORMATS });
  }
  const { layer, hasBias } = await READERS[format](context, blob);
  const bias = hasBias ? await readTensor(context, blob, "the bias") : null;
  if (bias) checkBias(context, bias);
  if (blob.remaining > 0) {
    const message = `has ${blob.remaining} bytes behind its end`;
    refuseLayer(context, "uqff/size", message, { field: "blob", value: blob.remaining, limit: 0 });
  }
  return { layer: bias ? { ...layer, bias } : layer, version };
}

interface BlobReader {
  readonly remaining: number;
  /** The next bytes, to be read field by field. */
  fields(byteLength: number): Promise<Cursor>;
  /** Moves over data. */
  skip(byteLength: number, field: string): UqffRange;
}

function openBlob(context: LayerContext, { source, byteOffset: start, byteLength }: UqffRange): BlobReader {
  const end = start + byteLength;
  const tags = { end: "uqff/truncated", integer: "uqff/size", text: "uqff/format" } as const;
  let at = start;
  let window = new Uint8Array(0);
  let windowStart = start;
  const check = (length: number, field: string) => {
    if (length <= end - at) return;
    const message = `ends ${end - at} bytes after the start of ${field}, which has ${length}`;
    refuseLayer(context, "uqff/truncated", message, { field, value: length, limit: end - at });
  };
  return {
    get remaining() {
      return end - at;
    },
    async fields(length) {
      check(length, "its fields");
      if (at < windowStart || at + length > windowStart + window.byteLength) {
        windowStart = at;
        window = Uint8Array.from(
          await readRange(source, at, Math.min(end, at + Math.max(length, WINDOW_BYTES))),
        );
      }
      const bytes = window.subarray(at - windowStart, at - windowStart + length);
      at += length;
      return openCursor(bytes, { file: context.file, byteOffset: at - length, tags });
    },
    skip(length, field) {
      check(length, field);
      at += length;
      return { source, byteOffset: at - length, byteLength: length };
    },
  };
}

type Reader = (
  context: LayerContext,
  blob: BlobReader,
) => Promise<{ readonly layer: UqffLayer; readonly hasBias: boolean }>;

const READERS: Readonly<Record<"gguf" | "unquantized" | "hqq" | "fp8", Reader>> = {
  async gguf(context, blob) {
    const head = await blob.fields(13);
    const byteLength = head.u32("the length of the data");
    const hasBias = readFlag(context, head, "bias");
    const code = head.u32("the type");
    const shape = await readSizes(context, blob, head.u32("the rank"));
    return { layer: ggufLayer(context, code, shape, blob.skip(byteLength, "the data")), hasBias };
  },
  async unquantized(context, blob) {
    const hasBias = readFlag(context, await blob.fields(1), "bias");
    return { layer: plainLayer(context, await readTensor(context, blob, "the weight")), hasBias };
  },
  async hqq(context, blob) {
    const hasBias = readFlag(context, await blob.fields(1), "bias");
    const data = await readTensor(context, blob, "the codes");
    const scales = await readTensor(context, blob, "the scales");
    const zeros = await readTensor(context, blob, "the zeros");
    const shape = await readSizes(context, blob, (await blob.fields(4)).u32("the rank"));
    const tail = await blob.fields(12);
    const bits = tail.u8("bits");
    const settings = { bits, groupSize: tail.u32("the group size"), axis: tail.u8("the axis") };
    tail.u32("the optimization steps");
    readFlag(context, tail, "round_zeros");
    readFlag(context, tail, "channel_wise");
    return { layer: hqqLayer(context, settings, shape, { data, scales, zeros }), hasBias };
  },
  async fp8(context, blob) {
    const hasBias = readFlag(context, await blob.fields(1), "bias");
    const weight = await readTensor(context, blob, "the weight");
    const tail = await blob.fields(16);
    const dequantize = tail.f32("the scale of weights");
    tail.f32("the scale of activations");
    const quantize = tail.f32("the scale of quantization");
    readDtype(context, tail);
    return { layer: fp8Layer(context, weight, { quantize, dequantize }), hasBias };
  },
};

async function readTensor(context: LayerContext, blob: BlobReader, field: string): Promise<UqffVector> {
  const head = await blob.fields(12);
  const byteLength = head.u32(`the length of ${field}`);
  const number = readDtype(context, head);
  const dtype = UQFF_DTYPES[number];
  const shape = await readSizes(context, blob, head.u32("the rank"));
  const wanted = shape.reduce((product, size) => product * size, DTYPE_BYTES[number]);
  if (byteLength !== wanted) refuseSize(context, dtype, shape, byteLength, wanted);
  return { ...blob.skip(byteLength, field), dtype, shape };
}

function readDtype(context: LayerContext, cursor: Cursor): number {
  const number = cursor.u32("the element type");
  if (number < UQFF_DTYPES.length) return number;
  const message = `has the unknown element type ${number}`;
  return refuseLayer(context, "uqff/type", message, { field: "dtype", value: number, limit: UQFF_DTYPES });
}

async function readSizes(context: LayerContext, blob: BlobReader, rank: number): Promise<number[]> {
  const { tensorRank } = context.limits;
  if (rank > tensorRank) {
    const message = `has ${rank} dimensions, more than ${tensorRank}`;
    refuseLayer(context, "uqff/size", message, { field: "rank", value: rank, limit: tensorRank });
  }
  const cursor = await blob.fields(4 * rank);
  return Array.from({ length: rank }, (_, i) => cursor.u32(`size ${i}`));
}

function readFlag(context: LayerContext, cursor: Cursor, field: string): boolean {
  const value = cursor.u8(field);
  if (value <= 1) return value === 1;
  return refuseLayer(context, "uqff/format", `has the flag ${field} as ${value}, not 0 or 1`, {
    field,
    value,
  });
}
