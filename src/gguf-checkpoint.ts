/**
 * A GGUF file as a checkpoint: its tensors under their Hugging Face names, in their order of rows, and the config.json that
 * its metadata stands for.
 */

import { isDense, narrow, widen } from "./dense.js";
import { IsqError } from "./errors.js";
import type { Checkpoint, CheckpointEntry } from "./files/checkpoint.js";
import type { Directory } from "./files/directory.js";
import { ggmlTypeOf } from "./files/ggml-types.js";
import type { GgufEntry, GgufOptions } from "./files/gguf.js";
import { type GgufFiles, openGgufFiles } from "./files/gguf-split.js";
import { quote } from "./files/json.js";
import { joinLatent } from "./gguf-latent.js";
import { LIMITS } from "./limits.js";
import { type ModelConfig, parseConfig } from "./model/config.js";
import { headsOf } from "./model/gguf/architectures.js";
import { configOfMetadata } from "./model/gguf/config.js";
import { type Change, checkpointNameOf, type TensorRule } from "./model/gguf/names.js";
import { gatherRows, interleavedRows, invertRows } from "./model/gguf/rows.js";

export interface OpenedGguf {
  readonly files: GgufFiles;
  readonly config: ModelConfig;
  readonly checkpoint: Checkpoint;
}

/** A tensor of the checkpoint and where its bytes are. */
interface View extends CheckpointEntry {
  readonly from: GgufEntry;
  /** From the start of the file's tensor; experts follow each other. */
  readonly start: number;
  readonly change: Change;
}

/**
 * Opens a GGUF file of a folder, or any shard of a split one. Reads headers, and the rotary factors where the file has some.
 * Throws `source/*`, `gguf/*`, `architecture/unknown`, `config/invalid`.
 */
export async function openGgufCheckpoint(
  directory: Directory,
  file: string,
  options: GgufOptions = {},
): Promise<OpenedGguf> {
  const files = await openGgufFiles(directory, file, options);
  try {
    const { architecture, config } = await configOfMetadata(files, (name) => readFactors(files, name));
    const parsed = parseConfig(JSON.stringify(config), files.name);
    const views = new Map<string, View>();
    for (const entry of files.tensors.values()) {
      for (const view of viewsOf(architecture.tensors, entry)) views.set(view.name, view);
    }
    const checkpoint = joinLatent(files, createCheckpoint(files, views, parsed));
    return { files, config: parsed, checkpoint };
  } catch (error) {
    await files.close();
    throw error;
  }
}

/** What a file's tensor is in the checkpoint: nothing where no rule knows it, one tensor per expert for merged experts. */
function viewsOf(rules: readonly TensorRule[], entry: GgufEntry): View[] {
  const match = checkpointNameOf(rules, entry.name);
  if (match === null) return [];
  const { change } = match.rule;
  const dtype = ggmlTypeOf(entry.typeId)?.isq ?? entry.dtype;
  const base = { dtype, from: entry, change };
  if (!match.name.includes("{e}")) {
    const shape = change === "row" ? [1, ...entry.shape] : entry.shape;
    return [{ ...base, name: match.name, shape, byteLength: entry.byteLength, start: 0 }];
  }
  const [experts, ...shape] = entry.shape;
  if (shape.length !== 2 || experts > LIMITS.configExperts) {
    const message = `${entry.name} is [${entry.shape.join(", ")}], not experts of matrices`;
    const details = { tensor: entry.name, field: "shape", value: entry.shape, limit: LIMITS.configExperts };
    throw new IsqError("gguf/shape", message, details);
  }
  const byteLength = experts === 0 ? 0 : entry.byteLength / experts;
  return Array.from({ length: experts }, (_, expert) => ({
    ...base,
    name: match.name.replace("{e}", String(expert)),
    shape,
    byteLength,
    start: expert * byteLength,
  }));
}

function createCheckpoint(
  files: GgufFiles,
  views: ReadonlyMap<string, View>,
  config: ModelConfig,
): Checkpoint {
  const { name: file } = files;
  const find = (tensor: string): View => {
    const view = views.get(tensor);
    if (view) return view;
    const message = `${file} has no tensor ${quote(tensor)}`;
    throw new IsqError("tensor/missing", message, { file, tensor });
  };
  const read = async (tensor: string): Promise<Uint8Array> => {
    const view = find(tensor);
    const { from, start, byteLength } = view;
    const data = await files.readRange(from.name, start, start + byteLength);
    return restore(view, data, view.shape[0], config);
  };
  return {
    name: file,
    format: "gguf",
    tensors: views,
    sources: files.sources,
    read,
    async readRange(tensor, start, end) {
      const view = find(tensor);
      if (!(start >= 0 && start <= end && end <= view.byteLength)) {
        const message = `${file}: bytes ${start} to ${end} lie outside of ${quote(tensor)}`;
        const details = { file, tensor, field: "range", value: [start, end], limit: view.byteLength };
        throw new IsqError("source/range", message, details);
      }
      const group = rowGroupBytes(view, config);
      if (start % group !== 0 || end % group !== 0) return (await read(tensor)).subarray(start, end);
      const bytes = await files.readRange(view.from.name, view.start + start, view.start + end);
      const [rows, ...rest] = view.shape;
      const shape = [((end - start) / view.byteLength) * rows, ...rest];
      return restore({ ...view, shape }, bytes, rows, config);
    },
    locate(tensor) {
      const { from, start, change } = find(tensor);
      const file = change === "none" || change === "row" ? files.fileOf(from.name) : null;
      return file && { ...file, byteOffset: from.byteOffset + start };
    },
    close: () => files.close(),
  };
}

/** Bytes that can be restored by themselves: one, those of the rows of a head, or all. */
function rowGroupBytes({ change, byteLength }: View, config: ModelConfig): number {
  if (change === "none" || change === "row") return 1;
  if (change !== "rope-queries" && change !== "rope-keys") return byteLength;
  return byteLength / headCount(change, config);
}

function headCount(change: "rope-queries" | "rope-keys", config: ModelConfig): number {
  const { heads, kvHeads } = headsOf(config.fields);
  return change === "rope-queries" ? heads : kvHeads;
}

/** The file's bytes as the checkpoint has them: a tensor of `rows` rows, or whole groups of its rows. */
function restore(view: View, data: Uint8Array, rows: number, config: ModelConfig): Uint8Array {
  const { change, shape } = view;
  switch (change) {
    case "rope-queries":
    case "rope-keys": {
      const heads = (headCount(change, config) * shape[0]) / rows;
      checkHeads(view, heads);
      return gatherRows(data, invertRows(interleavedRows(shape[0], heads)));
    }
    case "plus-one": {
      const type = denseType(view);
      return narrow(
        widen({ type, shape, data }).map((value) => value - 1),
        type,
      );
    }
    default:
      return data;
  }
}

function checkHeads({ from, shape }: View, heads: number): void {
  if (shape[0] % (2 * heads) === 0) return;
  const message = `${from.name} has ${shape[0]} rows, which are not ${heads} heads of pairs`;
  throw new IsqError("gguf/shape", message, {
    tensor: from.name,
    field: "shape",
    value: shape,
    limit: heads,
  });
}

function denseType({ name, dtype, from }: View) {
  if (isDense(dtype)) return dtype;
  const message = `${from.name} is ${dtype}; ${name} can be made of dense tensors only`;
  throw new IsqError("gguf/type", message, { tensor: from.name, field: "type", value: dtype });
}

async function readFactors(files: GgufFiles, name: string): Promise<Float32Array | null> {
  const entry = files.tensors.get(name);
  if (!entry) return null;
  if (!isDense(entry.dtype) || entry.shape.length !== 1 || entry.shape[0] > LIMITS.configWidth) {
    const value = `${entry.dtype} [${entry.shape.join(", ")}]`;
    const message = `${files.name}: ${name} is ${value}, and must be a dense vector`;
    throw new IsqError("gguf/type", message, { file: files.name, tensor: name, value });
  }
  return widen({ type: entry.dtype, shape: entry.shape, data: await files.read(name) });
}
