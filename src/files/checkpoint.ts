/** A checkpoint: the tensors of one safetensors file, or of the shards that an index names. */

import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { type Directory, readFile } from "./directory.js";
import { type Json, JsonSyntaxError, parseJson } from "./json.js";
import { openSafetensors, type Safetensors, type SafetensorsEntry } from "./safetensors.js";
import type { ByteSource } from "./source.js";

export interface Checkpoint {
  /** For error messages. */
  readonly name: string;
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  /** Bytes of one tensor as stored, little-endian. Throws `tensor/missing`, `source/*`. */
  read(name: string): Promise<Uint8Array>;
  /** Closes the files. */
  close(): Promise<void>;
}

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/**
 * Opens `model.safetensors`, or the shards of `model.safetensors.index.json` when there is no single file. Throws
 * `source/open` when there is neither, `safetensors/*` for anything malformed.
 */
export async function openCheckpoint(directory: Directory): Promise<Checkpoint> {
  if (await directory.has(SINGLE)) return openFiles(directory, [SINGLE], SINGLE, null);
  if (await directory.has(INDEX)) {
    const shardOf = await readIndex(directory);
    return openFiles(directory, [...new Set(shardOf.values())].sort(), INDEX, shardOf);
  }
  throw new IsqError("source/open", `${directory.name} has neither ${SINGLE} nor ${INDEX}`, {
    file: directory.name,
    limit: [SINGLE, INDEX],
  });
}

async function openFiles(
  directory: Directory,
  files: readonly string[],
  main: string,
  shardOf: ReadonlyMap<string, string> | null,
): Promise<Checkpoint> {
  const name = `${directory.name}/${main}`;
  const opened: ByteSource[] = [];
  const close = async () => {
    for (const source of opened) await source.close?.();
  };
  try {
    const owners = new Map<string, Safetensors>();
    for (const file of files) {
      if (!(await directory.has(file))) throw indexError(name, `the shard ${file} is missing`, file);
      const source = await directory.open(file);
      opened.push(source);
      const shard = await openSafetensors(source);
      for (const tensor of shard.tensors.keys()) {
        if (owners.has(tensor)) throw indexError(name, `${tensor} is in two shards`, file);
        if (shardOf && shardOf.get(tensor) !== file) {
          throw indexError(
            name,
            `${file} has ${tensor}, which the index puts in ${shardOf.get(tensor)}`,
            file,
          );
        }
        owners.set(tensor, shard);
      }
    }
    for (const tensor of shardOf?.keys() ?? []) {
      if (!owners.has(tensor)) throw indexError(name, `${shardOf?.get(tensor)} lacks ${tensor}`, tensor);
    }
    return createCheckpoint(name, owners, close);
  } catch (error) {
    await close();
    throw error;
  }
}

function createCheckpoint(
  name: string,
  owners: ReadonlyMap<string, Safetensors>,
  close: () => Promise<void>,
): Checkpoint {
  const tensors = new Map<string, SafetensorsEntry>();
  for (const [tensor, shard] of owners) tensors.set(tensor, shard.tensors.get(tensor) as SafetensorsEntry);
  return {
    name,
    tensors,
    close,
    read(tensor) {
      const owner = owners.get(tensor);
      if (owner) return owner.read(tensor);
      return Promise.reject(
        new IsqError("tensor/missing", `${name} has no tensor ${tensor}`, { file: name, tensor }),
      );
    },
  };
}

/** Reads `weight_map`: tensor name to shard file. */
async function readIndex(directory: Directory): Promise<Map<string, string>> {
  const name = `${directory.name}/${INDEX}`;
  const bytes = await readFile(directory, INDEX, LIMITS.jsonBytes);
  let index: Json;
  try {
    index = parseJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes), LIMITS.safetensorsHeaderDepth);
  } catch (error) {
    if (!(error instanceof JsonSyntaxError) && !(error instanceof TypeError)) throw error;
    throw indexError(name, `it is not JSON: ${error.message}`, null);
  }
  const map = index.kind === "object" ? index.entries.find(([key]) => key === "weight_map")?.[1] : undefined;
  if (map?.kind !== "object") throw indexError(name, "it has no weight_map", null);
  const shardOf = new Map<string, string>();
  for (const [tensor, file] of map.entries) {
    if (file.kind !== "string") throw indexError(name, `${tensor} is mapped to a ${file.kind}`, tensor);
    // A plain name in the same folder: anything else could leave it (CWE-22).
    if (!/^[\w][\w.-]*\.safetensors$/.test(file.text)) {
      throw indexError(name, `${JSON.stringify(file.text)} is not a plain safetensors file name`, file.text);
    }
    if (shardOf.has(tensor)) throw indexError(name, `${tensor} is mapped twice`, tensor);
    shardOf.set(tensor, file.text);
  }
  const shards = new Set(shardOf.values()).size;
  if (shards === 0 || shards > LIMITS.shardCount) throw indexError(name, `it names ${shards} shards`, shards);
  return shardOf;
}

function indexError(file: string, message: string, value: unknown): IsqError {
  return new IsqError("safetensors/index", `${file}: ${message}`, { file, field: "weight_map", value });
}
