/** Models written as UQFF in memory, of today's version and of the first. */

import type { DenseTensor, Tensor } from "../src/backends/backend.js";
import { wasm } from "../src/backends/wasm.js";
import { narrow } from "../src/dense.js";
import { type Directory, fromFiles } from "../src/files/directory.js";
import { ggmlTypeNamed } from "../src/files/ggml-types.js";
import { toBytes } from "../src/files/gguf-write.js";
import { writeSafetensors } from "../src/files/safetensors.js";
import { UQFF_DTYPES } from "../src/files/uqff-layer.js";
import type { OpenedModel } from "../src/load.js";
import { listIsqLayers } from "../src/model/isq-layers.js";
import { type Plan, type PlanRequest, plan } from "../src/plan.js";
import { quantizeModel } from "../src/quantize.js";
import { TYPES } from "../src/quants/index.js";
import { saveModel } from "../src/save.js";
import { planUqff } from "../src/uqff-export.js";

export type Files = Record<string, Uint8Array>;

export function planOf(opened: OpenedModel, request: Partial<PlanRequest> = {}): Plan {
  return plan(opened.program, opened.sourceOf, { type: null, ...request });
}

/** Shards `m-0.uqff` and so on, and the residual tensors. */
export async function toUqff(
  opened: OpenedModel,
  { shardByteLength, ...request }: Partial<PlanRequest> & { shardByteLength?: number } = {},
): Promise<Files> {
  const decided = planOf(opened, request);
  const set = planUqff(decided, { stem: "m", ...(shardByteLength && { shardByteLength }) });
  const files: Files = {};
  for (const { name, file } of [...set.shards, set.residual]) {
    const sink = toBytes(file.byteLength);
    await saveModel(file, decided, opened.checkpoint, await wasm(), sink);
    files[name] = sink.bytes;
  }
  return files;
}

/** A folder in memory: the files and the model's config. */
export async function uqffDirectory(opened: OpenedModel, files: Files): Promise<Directory> {
  const config = JSON.stringify(opened.config.fields.values);
  const all = { ...files, "config.json": config };
  return fromFiles(
    Object.entries(all).map(([name, bytes]) => [name, new Blob([bytes as BlobPart])] as const),
  );
}

/** All tensors that a plan makes, by name. */
export async function tensorsOf(
  opened: OpenedModel,
  request: Partial<PlanRequest> = {},
): Promise<Map<string, Tensor>> {
  const made = new Map<string, Tensor>();
  const keep = ({ tensor }: { tensor: string }, found: Tensor) => void made.set(tensor, found);
  await quantizeModel(planOf(opened, request), opened.checkpoint, await wasm(), keep);
  return made;
}

const bytes = (...parts: ArrayLike<number>[]) =>
  Uint8Array.from(parts.flatMap((part) => [...Array.from(part)]));
const u32 = (...values: number[]) => new Uint8Array(Uint32Array.from(values).buffer);
const inner = (dtype: string, shape: readonly number[], data: Uint8Array) =>
  bytes(u32(data.length, UQFF_DTYPES.indexOf(dtype as "U8"), shape.length, ...shape), data);

/** A blob as mistral.rs 0.3.5 writes it. */
export function toBlob(tensor: Tensor, bias?: DenseTensor): Uint8Array {
  const { type, shape, data } = tensor;
  const tail = bias ? inner(bias.type, bias.shape, bias.data) : [];
  const flag = bias ? 1 : 0;
  if (!("algorithm" in tensor)) return bytes(u32(0x102), [1, flag], inner(type, shape, data), tail);
  const { family, blockElements } = TYPES[tensor.type];
  if (family === "block") {
    const code = ggmlTypeNamed(tensor.type)!.id;
    return bytes(u32(0x102), [0], u32(data.length), [flag], u32(code, shape.length, ...shape), data, tail);
  }
  if (family === "tensor") {
    const scales = Float32Array.of(tensor.dequantizeScale!, tensor.dequantizeScale!, tensor.quantizeScale!);
    return bytes(u32(0x102), [3, flag], inner("F8_E4M3", shape, data), narrow(scales, "F32"), u32(9), tail);
  }
  const groups = shape.reduce((product, size) => product * size, 1) / blockElements;
  const side = (values: Float32Array) => inner("F32", [1, groups], narrow(values, "F32"));
  const codes = inner("U8", [data.length / groups, groups], data);
  const bits = tensor.type === "HQQ4" ? 4 : 8;
  const settings = bytes([bits], u32(64), [0], u32(10), [0, 1]);
  const logical = u32(shape.length, ...shape);
  return bytes(
    u32(0x102),
    [2, flag],
    codes,
    side(tensor.scales!),
    side(tensor.zeros!),
    logical,
    settings,
    tail,
  );
}

/** The files of version 0.1: numbered blobs in the order of the list, everything else beside. */
export async function toNumbered(
  opened: OpenedModel,
  request: Partial<PlanRequest>,
  which = 0,
): Promise<Files> {
  const made = await tensorsOf(opened, request);
  const list = listIsqLayers(opened.program)[which];
  const inList = new Set<string>();
  const blobs = list.map(({ name }, i) => {
    const biasName = name.replace(/\.weight$/, ".bias");
    const bias = made.get(biasName) as DenseTensor | undefined;
    inList.add(name).add(biasName);
    const data = toBlob(made.get(name)!, bias);
    return { name: String(i), dtype: "U8", shape: [data.length], data };
  });
  const rest = [...made]
    .filter(([name]) => !inList.has(name))
    .map(([name, { type, shape, data }]) => ({ name, dtype: type, shape, data }));
  return { "m.uqff": writeSafetensors(blobs), "residual.safetensors": writeSafetensors(rest) };
}
