/**
 * Keys and values of latent attention as llama.cpp's converter has split them since 2025: `attn_v_b` has the value's rows of
 * each head, `attn_k_b` the key's transposed, because it multiplies queries. Here they are `kv_b_proj` again, in which each
 * head has the rows of its key and then those of its value. A row of it has elements of many blocks of a quantized `attn_k_b`,
 * so that what is quantized, or of two types, is F32 here.
 */

import { DENSE_BYTES, isDense, narrow, widen } from "./dense.js";
import { IsqError } from "./errors.js";
import type { Checkpoint, CheckpointEntry } from "./files/checkpoint.js";
import { ggmlTypeOf } from "./files/ggml-types.js";
import type { GgufEntry } from "./files/gguf.js";
import type { GgufFiles } from "./files/gguf-split.js";
import { transposeMatrix } from "./model/gguf/rows.js";
import { dequantize } from "./quants/index.js";

const SPLIT = /^blk\.(0|[1-9]\d{0,5})\.attn_([kv])_b\.weight$/;

/** One matrix, and the tensors of the file that it is made of. Sizes are elements. */
interface Joined extends CheckpointEntry {
  /** [heads, rank, keyWidth]. */
  readonly keys: GgufEntry;
  /** [heads, valueWidth, rank]. */
  readonly values: GgufEntry;
  readonly dtype: "F32" | "F16" | "BF16";
}

/**
 * A checkpoint with a `kv_b_proj` for every layer that the file has split. Throws `tensor/missing` where one half is missing,
 * `gguf/shape` and `gguf/type` for halves that do not belong together or cannot be decoded.
 */
export function joinLatent(files: GgufFiles, checkpoint: Checkpoint): Checkpoint {
  const joined = new Map<string, Joined>();
  for (const { name } of files.tensors.values()) {
    const layer = SPLIT.exec(name)?.[1];
    if (layer === undefined) continue;
    const whole = `model.layers.${layer}.self_attn.kv_b_proj.weight`;
    if (!joined.has(whole)) joined.set(whole, join(files, whole, layer));
  }
  if (joined.size === 0) return checkpoint;
  const readRange = async (name: string, start: number, end: number): Promise<Uint8Array> => {
    const entry = joined.get(name);
    return entry ? readHeads(files, entry, start, end) : checkpoint.readRange(name, start, end);
  };
  return {
    ...checkpoint,
    tensors: new Map<string, CheckpointEntry>([...checkpoint.tensors, ...joined]),
    read(name) {
      const entry = joined.get(name);
      return entry ? readRange(name, 0, entry.byteLength) : checkpoint.read(name);
    },
    readRange,
    locate: (name) => (joined.has(name) ? null : checkpoint.locate(name)),
  };
}

function join({ name: file, tensors }: GgufFiles, name: string, layer: string): Joined {
  const [keys, values] = ["k", "v"].map((half) => {
    const tensor = `blk.${layer}.attn_${half}_b.weight`;
    const entry = tensors.get(tensor);
    if (!entry) throw new IsqError("tensor/missing", `${file} has no tensor ${tensor}`, { file, tensor });
    if (!isDense(entry.dtype) && !ggmlTypeOf(entry.typeId)?.isq) {
      const message = `${tensor} is ${entry.dtype}, which cannot be decoded`;
      throw new IsqError("gguf/type", message, { file, tensor, field: "type", value: entry.dtype });
    }
    return entry;
  });
  const [heads, rank, keyWidth] = keys.shape;
  const [valueHeads, valueWidth, valueRank] = values.shape;
  const isFit = keys.shape.length === 3 && values.shape.length === 3;
  if (!isFit || heads === 0 || heads !== valueHeads || rank !== valueRank) {
    const message = `${keys.name} is [${keys.shape.join(", ")}] and ${values.name} [${values.shape.join(", ")}]`;
    const details = { file, tensor: values.name, field: "shape", value: values.shape, limit: keys.shape };
    throw new IsqError("gguf/shape", `${message}, which are not halves of one matrix`, details);
  }
  const dtype = isDense(keys.dtype) && keys.dtype === values.dtype ? keys.dtype : "F32";
  const shape = [heads * (keyWidth + valueWidth), rank];
  return { name, keys, values, dtype, shape, byteLength: shape[0] * rank * DENSE_BYTES[dtype] };
}

/** Bytes of the matrix, of which whole heads are read. Throws `source/*`. */
async function readHeads(files: GgufFiles, entry: Joined, start: number, end: number): Promise<Uint8Array> {
  const { name, byteLength, keys, values, dtype } = entry;
  if (!(start >= 0 && start <= end && end <= byteLength)) {
    const message = `${files.name}: bytes ${start} to ${end} lie outside of ${name}`;
    const details = {
      file: files.name,
      tensor: name,
      field: "range",
      value: [start, end],
      limit: byteLength,
    };
    throw new IsqError("source/range", message, details);
  }
  const [heads, rank, keyWidth] = keys.shape;
  const headBytes = byteLength / heads;
  const first = Math.floor(start / headBytes);
  const last = Math.ceil(end / headBytes);
  const bytes = new Uint8Array((last - first) * headBytes);
  const keyBytes = keyWidth * rank * DENSE_BYTES[dtype];
  for (let head = first; head < last; head++) {
    const at = (head - first) * headBytes;
    const key = await readHead(files, keys, head, dtype);
    bytes.set(transposeMatrix(key, rank, keyWidth, DENSE_BYTES[dtype]), at);
    bytes.set(await readHead(files, values, head, dtype), at + keyBytes);
  }
  return bytes.subarray(start - first * headBytes, end - first * headBytes);
}

/** One head of a tensor [heads, rows, columns], as the dense type. */
async function readHead(
  files: GgufFiles,
  { name, typeId, dtype: own, shape: [heads, ...shape], byteLength }: GgufEntry,
  head: number,
  dtype: Joined["dtype"],
): Promise<Uint8Array> {
  const headBytes = byteLength / heads;
  const data = await files.readRange(name, head * headBytes, (head + 1) * headBytes);
  if (own === dtype) return data;
  if (isDense(own)) return narrow(widen({ type: own, shape, data }), dtype);
  const type = ggmlTypeOf(typeId)!.isq!;
  return narrow(dequantize({ type, algorithm: "ggml", shape, data }), dtype);
}
