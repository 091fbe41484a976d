/**
 * Models split over several GGUF files: `NAME-00001-of-00003.gguf` and so on. Every file says its number (from 0), the
 * count of files and of all tensors; the first has the metadata.
 */

import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import type { Directory } from "./directory.js";
import { type Gguf, type GgufEntry, type GgufOptions, openGguf } from "./gguf.js";
import type { GgufMetadata, GgufValue } from "./gguf-values.js";
import { type GgufLayout, type GgufTensorSpec, layoutGguf } from "./gguf-write.js";
import { quote } from "./json.js";
import { type ByteSource, type SharedFile, shareSource } from "./source.js";

export type { GgufEntry } from "./gguf.js";

/** One file or several, as one. */
export interface GgufFiles {
  /** For error messages: the file that was asked for. */
  readonly name: string;
  /** Of the first file. */
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, GgufEntry>;
  readonly warnings: readonly string[];
  /** As {@link Gguf.read}. */
  read(name: string): Promise<Uint8Array>;
  /** As {@link Gguf.readRange}. */
  readRange(name: string, start: number, end: number): Promise<Uint8Array>;
  /** The file that has the tensor, as other threads can read it; null where they cannot. */
  fileOf(name: string): SharedFile | null;
  /** The files. */
  readonly sources: readonly ByteSource[];
  close(): Promise<void>;
}

const NO = "split.no";
const COUNT = "split.count";
const TENSORS = "split.tensors.count";
const SHARD_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/;

/** The name of a shard, counted from 0. */
export function shardName(prefix: string, index: number, count: number): string {
  const digits = (value: number) => String(value).padStart(5, "0");
  return `${prefix}-${digits(index + 1)}-of-${digits(count)}.gguf`;
}

/**
 * Opens a file of a folder, or all shards when its name is that of one. Throws `source/open`, `gguf/*`, and `gguf/split` when
 * the shards do not belong together.
 */
export async function openGgufFiles(
  directory: Directory,
  file: string,
  options: GgufOptions = {},
): Promise<GgufFiles> {
  const name = `${directory.name}/${file}`;
  const names = shardNames(name, file, options.limits?.shardCount ?? LIMITS.shardCount);
  const opened: ByteSource[] = [];
  const close = async () => {
    await Promise.all(opened.map((source) => source.close?.()));
  };
  try {
    const shards: Gguf[] = [];
    for (const shard of names) {
      if (names.length > 1 && !(await directory.has(shard))) {
        throw splitError(name, `the shard ${shard} is missing`, "file", shard);
      }
      const source = await directory.open(shard);
      opened.push(source);
      shards.push(await openGguf(source, options));
    }
    checkShards(name, shards);
    return joinShards(name, shards, close);
  } catch (error) {
    await close();
    throw error;
  }
}

/** The files that belong to `file`, itself included. */
function shardNames(name: string, file: string, limit: number): string[] {
  const match = SHARD_NAME.exec(file);
  if (!match) return [file];
  const [index, count] = [Number(match[2]), Number(match[3])];
  if (index < 1 || index > count || count > limit) {
    throw splitError(name, `there is no shard ${index} of ${count}`, "file", file);
  }
  return Array.from({ length: count }, (_, i) => shardName(match[1], i, count));
}

function checkShards(name: string, shards: readonly Gguf[]): void {
  const total = shards.reduce((sum, { tensors }) => sum + tensors.size, 0);
  const architecture = textOf(shards[0].metadata.get("general.architecture"));
  for (const [index, { metadata, source }] of shards.entries()) {
    const expect = (key: string, wanted: number) => {
      const found = metadata.get(key);
      if (found === undefined && shards.length === 1) return;
      if (found !== undefined && found.type !== "array" && Number(found.value) === wanted) return;
      const value = found === undefined || found.type === "array" ? undefined : String(found.value);
      throw splitError(name, `${source.name} has ${key} ${value}, not ${wanted}`, key, value);
    };
    expect(COUNT, shards.length);
    expect(NO, index);
    expect(TENSORS, total);
    const own = textOf(metadata.get("general.architecture"));
    if (own !== undefined && own !== architecture) {
      throw splitError(name, `${source.name} is of another model (${own})`, "general.architecture", own);
    }
  }
}

function textOf(value: GgufValue | undefined): string | undefined {
  return value?.type === "string" ? value.value : undefined;
}

function joinShards(name: string, shards: readonly Gguf[], close: () => Promise<void>): GgufFiles {
  const owners = new Map<string, Gguf>();
  const tensors = new Map<string, GgufEntry>();
  for (const shard of shards) {
    for (const [tensor, entry] of shard.tensors) {
      if (owners.has(tensor)) throw splitError(name, `${quote(tensor)} is in two shards`, "tensor", tensor);
      owners.set(tensor, shard);
      tensors.set(tensor, entry);
    }
  }
  const find = (tensor: string): Gguf => owners.get(tensor) ?? shards[0]; // which says that it is missing
  return {
    name,
    metadata: shards[0].metadata,
    tensors,
    warnings: shards.flatMap(({ warnings }) => warnings),
    read: async (tensor) => find(tensor).read(tensor),
    readRange: async (tensor, start, end) => find(tensor).readRange(tensor, start, end),
    sources: shards.map(({ source }) => source),
    fileOf: (tensor) => shareSource(find(tensor).source),
    close,
  };
}

function splitError(file: string, message: string, field: string, value: unknown): IsqError {
  return new IsqError("gguf/split", `${file}: ${message}`, { file, field, value });
}

/** One file of a split model. */
export interface GgufShard {
  readonly file: string;
  readonly layout: GgufLayout;
  /** Indices into the list of all tensors, in the order of the layout. */
  readonly tensors: readonly number[];
}

/**
 * Lays out a model over files of at most `maxDataBytes` of tensor data each (a larger tensor has a file of its own). Throws as
 * {@link layoutGguf}, and `gguf/split` for more files than the names can count.
 */
export function layoutGgufShards(
  prefix: string,
  metadata: GgufMetadata,
  tensors: readonly GgufTensorSpec[],
  maxDataBytes: number,
): GgufShard[] {
  const sizes = layoutGguf(metadata, tensors).tensors;
  const groups: number[][] = [[]];
  let bytes = 0;
  for (const [index, { byteLength, paddingBytes }] of sizes.entries()) {
    if (bytes > 0 && bytes + byteLength > maxDataBytes) {
      groups.push([]);
      bytes = 0;
    }
    bytes += byteLength + paddingBytes;
    groups.at(-1)!.push(index);
  }
  if (groups.length > LIMITS.shardCount) {
    const message = `${groups.length} files are more than ${LIMITS.shardCount}`;
    throw splitError(prefix, message, "maxDataBytes", maxDataBytes);
  }
  return groups.map((group, index) => {
    const keys = new Map<string, GgufValue>(index === 0 ? metadata : alignmentOnly(metadata));
    keys.set(NO, { type: "u16", value: index });
    keys.set(COUNT, { type: "u16", value: groups.length });
    keys.set(TENSORS, { type: "i32", value: tensors.length });
    const layout = layoutGguf(
      keys,
      group.map((i) => tensors[i]),
    );
    return { file: shardName(prefix, index, groups.length), layout, tensors: group };
  });
}

function alignmentOnly(metadata: GgufMetadata): [string, GgufValue][] {
  return [...metadata].filter(([key]) => key === "general.alignment");
}
