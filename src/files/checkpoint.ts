/** A checkpoint: the tensors of one safetensors file, or of the shards that an index names. GGUF files become one, too. */

import { IsqError } from "../errors.js";
import { LIMITS, type Limits } from "../limits.js";
import type { Algorithm } from "../quants/table.js";
import { type Directory, readFile } from "./directory.js";
import { finishJson, JsonError, openJson, quote, readObject, readString, skipValue } from "./json.js";
import {
  openSafetensors,
  type Safetensors,
  type SafetensorsEntry,
  type SafetensorsOptions,
} from "./safetensors.js";
import { type QuantizedEntry, readQuantizedEntries, sideVectors } from "./safetensors-quantized.js";
import { type ByteSource, type SharedFile, shareSource } from "./source.js";

/** A tensor as a checkpoint has it. Quantized ones have a type of quants/table.ts. */
export interface CheckpointEntry extends Pick<SafetensorsEntry, "name" | "dtype" | "shape" | "byteLength"> {
  /** The encoder of a quantized tensor, where the file says it. */
  readonly algorithm?: Algorithm;
}

/** Where in a file something begins. */
export interface FilePlace extends SharedFile {
  readonly byteOffset: number;
}

/** What decoding a quantized tensor needs beside its bytes. */
export interface QuantizedSides {
  readonly scales?: Float32Array;
  readonly zeros?: Float32Array;
  readonly quantizeScale?: number;
  readonly dequantizeScale?: number;
}

/**
 * An opened file, or set of files, of weights in one of the three formats; tensors are read one by one, or in parts.
 */
export interface Checkpoint {
  /** For error messages. */
  readonly name: string;
  readonly format: "safetensors" | "gguf" | "uqff";
  readonly tensors: ReadonlyMap<string, CheckpointEntry>;
  /** Bytes of one tensor as stored, little-endian. Throws `tensor/missing`, `source/*`. */
  read(name: string): Promise<Uint8Array>;
  /** Bytes `start` to `end` of one tensor, counted from its own start. Throws `tensor/missing`, `source/*`. */
  readRange(name: string, start: number, end: number): Promise<Uint8Array>;
  /** What belongs to a quantized tensor, where the file has it; absent: the bytes are all. Throws as `read`. */
  readSides?(name: string): Promise<QuantizedSides>;
  /** The files that it consists of. */
  readonly sources: readonly ByteSource[];
  /** Where a tensor's bytes lie, when it is in a plain file or a Blob; null otherwise. Throws `tensor/missing`. */
  locate(name: string): FilePlace | null;
  /** Closes the files. */
  close(): Promise<void>;
}

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

export interface CheckpointOptions extends SafetensorsOptions {
  /** A safetensors file of the folder to take alone. */
  readonly file?: string;
}

/**
 * Opens `model.safetensors`, or the shards of `model.safetensors.index.json` when there is no single file. Throws
 * `source/open` when there is neither, `safetensors/*` for anything malformed.
 */
export async function openCheckpoint(
  directory: Directory,
  options: CheckpointOptions = {},
): Promise<Checkpoint> {
  const limits = { ...LIMITS, ...options.limits };
  const { file } = options;
  if (file !== undefined) return openShards(directory, file, [file], null, limits);
  if (await directory.has(SINGLE)) return openShards(directory, SINGLE, [SINGLE], null, limits);
  if (await directory.has(INDEX)) {
    const shardOf = await readIndex(directory, limits);
    const files = [...new Set(shardOf.values())].sort();
    return openShards(directory, INDEX, files, shardOf, limits);
  }
  throw new IsqError("source/open", `${directory.name} has neither ${SINGLE} nor ${INDEX}`, {
    file: directory.name,
    limit: [SINGLE, INDEX],
  });
}

/** Opens every file; `shardOf`, where there is an index, must agree with what they contain. */
async function openShards(
  directory: Directory,
  main: string,
  files: readonly string[],
  shardOf: ReadonlyMap<string, string> | null,
  limits: Limits,
): Promise<Checkpoint> {
  const name = `${directory.name}/${main}`;
  const opened: ByteSource[] = [];
  const close = async () => {
    await Promise.all(opened.map((source) => source.close?.()));
  };
  try {
    const owners = new Map<string, Safetensors>();
    for (const file of files) {
      if (!(await directory.has(file))) throw indexError(name, `the shard ${file} is missing`, file);
      const source = await directory.open(file);
      opened.push(source);
      const shard = await openSafetensors(source, { limits });
      for (const tensor of shard.tensors.keys()) {
        if (owners.has(tensor)) throw indexError(name, `${quote(tensor)} is in two shards`, tensor);
        const place = shardOf?.get(tensor) ?? "no shard";
        if (shardOf && place !== file) {
          throw indexError(name, `${file} has ${quote(tensor)}, which the index puts in ${place}`, tensor);
        }
        owners.set(tensor, shard);
      }
    }
    for (const [tensor, file] of shardOf ?? []) {
      if (!owners.has(tensor)) throw indexError(name, `${file} lacks ${quote(tensor)}`, tensor);
    }
    return createCheckpoint(name, owners, opened, limits, close);
  } catch (error) {
    await close();
    throw error;
  }
}

function createCheckpoint(
  name: string,
  owners: ReadonlyMap<string, Safetensors>,
  sources: readonly ByteSource[],
  limits: Limits,
  close: () => Promise<void>,
): Checkpoint {
  const tensors = new Map<string, CheckpointEntry>();
  for (const [tensor, shard] of owners) tensors.set(tensor, shard.tensors.get(tensor)!);
  const quantized = new Map<string, QuantizedEntry>();
  for (const shard of new Set(owners.values())) {
    for (const [tensor, entry] of readQuantizedEntries(shard.source.name, shard, limits)) {
      quantized.set(tensor, entry);
      const { type, ...rest } = entry;
      tensors.set(tensor, { ...tensors.get(tensor)!, ...rest, dtype: type });
    }
  }
  const find = (tensor: string): Safetensors => {
    const owner = owners.get(tensor);
    if (owner) return owner;
    const message = `${name} has no tensor ${quote(tensor)}`;
    throw new IsqError("tensor/missing", message, { file: name, tensor });
  };
  return {
    name,
    format: "safetensors",
    tensors,
    sources,
    close,
    read: async (tensor) => find(tensor).read(tensor),
    readRange: async (tensor, start, end) => find(tensor).readRange(tensor, start, end),
    readSides: async (tensor) => readSides(find(tensor), tensor, quantized.get(tensor)),
    locate(tensor) {
      const file = shareSource(find(tensor).source);
      return file && { ...file, byteOffset: find(tensor).tensors.get(tensor)!.byteOffset };
    },
  };
}

async function readSides(
  shard: Safetensors,
  tensor: string,
  entry: QuantizedEntry | undefined,
): Promise<QuantizedSides> {
  if (!entry) {
    const message = `${shard.source.name}: ${quote(tensor)} is not quantized`;
    throw new IsqError("safetensors/quantized", message, { file: shard.source.name, tensor });
  }
  const vectors: Float32Array[] = [];
  for (const { suffix } of sideVectors(entry.type, entry.shape)) {
    const bytes = await shard.read(tensor + suffix);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    vectors.push(Float32Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true)));
  }
  const [scales, zeros] = vectors;
  if (zeros) return { scales, zeros };
  return scales ? { quantizeScale: scales[0], dequantizeScale: scales[1] } : {};
}

/** Reads `weight_map`: tensor name to shard file. */
async function readIndex(directory: Directory, limits: Limits): Promise<Map<string, string>> {
  const name = `${directory.name}/${INDEX}`;
  const bytes = await readFile(directory, INDEX, limits.jsonBytes);
  let shardOf: Map<string, string>;
  try {
    shardOf = parseIndex(new TextDecoder("utf-8", { fatal: true }).decode(bytes), name, limits);
  } catch (error) {
    // The decoder throws a TypeError.
    if (!(error instanceof JsonError) && !(error instanceof TypeError)) throw error;
    throw indexError(name, `it is not the JSON it must be: ${error.message}`, null);
  }
  const shards = new Set(shardOf.values()).size;
  if (shards === 0 || shards > limits.shardCount) throw indexError(name, `it names ${shards} shards`, shards);
  return shardOf;
}

function parseIndex(text: string, name: string, limits: Limits): Map<string, string> {
  const json = openJson(text, { depth: limits.safetensorsHeaderDepth, entries: limits.jsonEntries });
  const shardOf = new Map<string, string>();
  readObject(json, (key) => {
    if (key !== "weight_map") return skipValue(json);
    readObject(json, (tensor) => {
      const file = readString(json);
      // A plain name in the same folder: anything else could leave it (CWE-22).
      if (!/^\w[\w.-]*\.safetensors$/.test(file)) {
        throw indexError(name, `${quote(file)} is not a plain safetensors file name`, file);
      }
      shardOf.set(tensor, file);
    });
  });
  finishJson(json);
  return shardOf;
}

function indexError(file: string, message: string, value: unknown): IsqError {
  return new IsqError("safetensors/index", `${file}: ${message}`, { file, field: "weight_map", value });
}
