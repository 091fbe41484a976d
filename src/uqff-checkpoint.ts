/**
 * UQFF shards and the file of all other tensors beside them as a checkpoint: every tensor under its Hugging Face name,
 * stacked experts taken apart.
 */

import type { WeightSpec } from "./backends/program.js";
import { widen } from "./dense.js";
import { IsqError } from "./errors.js";
import type { Checkpoint, CheckpointEntry, QuantizedSides } from "./files/checkpoint.js";
import { type Directory, readFile } from "./files/directory.js";
import { quote } from "./files/json.js";
import { openSafetensors, type Safetensors } from "./files/safetensors.js";
import { type ByteSource, readRange } from "./files/source.js";
import {
  openUqff,
  storedName,
  type Uqff,
  type UqffLayer,
  type UqffRange,
  type UqffVector,
} from "./files/uqff.js";
import { parseUqffReport, UQFF_REPORT, type UqffClaim } from "./files/uqff-report.js";
import { LIMITS, type Limits } from "./limits.js";
import { listIsqLayers } from "./model/isq-layers.js";
import { TYPES } from "./quants/table.js";
import { parseType } from "./quants/tensor.js";

export const UQFF_RESIDUAL = "residual.safetensors";

export interface UqffCheckpointOptions {
  /** Gives the weights of the model: numbered layers get their names from them. Without, they keep their numbers. */
  readonly weights?: () => Promise<readonly WeightSpec[]>;
  /** Whether the other tensors are needed; true when absent. */
  readonly residual?: boolean;
  readonly limits?: Partial<Limits>;
}

export interface OpenedUqff extends Checkpoint {
  readonly format: "uqff";
  readonly uqff: Uqff;
}

/** A tensor of the checkpoint and where its bytes are. */
interface View extends CheckpointEntry {
  readonly at: UqffRange;
  /** Of a layer's weight. */
  readonly layer?: UqffLayer;
}

/**
 * Opens UQFF shards of a folder: `q4k-0.uqff` with those that follow it, several separated by semicolons, the name
 * that a set was written under (`q4k`, `q4k.uqff`), or a type for the set that has it. Throws `source/open`, `uqff/*`, `safetensors/*`.
 */
export async function openUqffCheckpoint(
  directory: Directory,
  selection: string,
  options: UqffCheckpointOptions = {},
): Promise<OpenedUqff> {
  const limits = { ...LIMITS, ...options.limits };
  const { names, claim } = await findShards(directory, selection, limits);
  const opened: ByteSource[] = [];
  const close = async () => {
    await Promise.all(opened.map((source) => source.close?.()));
  };
  const open = async (file: string) => {
    const source = await directory.open(file);
    opened.push(source);
    return source;
  };
  try {
    const sources: ByteSource[] = [];
    for (const name of names) sources.push(await open(name));
    const uqff = await openUqff(sources, { limits });
    if (claim) checkClaim(directory, claim, uqff);
    const weights = uqff.numbered ? await options.weights?.() : undefined;
    const views = viewsOf(nameLayers(uqff, weights), uqff.numbered);
    if (options.residual ?? true) {
      await addResidual(directory, views, uqff.numbered, async (file) =>
        openSafetensors(await open(file), { limits }),
      );
    }
    return createCheckpoint(sources[0].name, uqff, views, opened, close);
  } catch (error) {
    await close();
    throw error;
  }
}

/** The files of a set, and what the report claims of them. */
async function findShards(
  directory: Directory,
  selection: string,
  limits: Limits,
): Promise<{ names: readonly string[]; claim: UqffClaim | null }> {
  const listed = selection.split(";").map((name) => name.trim());
  const claims = (await directory.has(UQFF_REPORT)) ? await readReport(directory, limits) : [];
  const named = await findNamed(directory, listed[0]);
  const type = named === null && !selection.endsWith(".uqff") ? typeOf(selection) : null;
  const first = type === null ? (named ?? listed[0]) : `${type}-0.uqff`;
  const claim = claims.find(({ quant, shards }) => quant === type || shards.includes(first)) ?? null;
  const names = claim?.shards ?? (listed.length > 1 ? listed : await findSiblings(directory, first, limits));
  for (const name of names) {
    if (await directory.has(name)) continue;
    const file = `${directory.name}/${name}`;
    const tag = claim ? "uqff/report" : "source/open";
    const message = claim
      ? `${directory.name}/${UQFF_REPORT} names the shard ${name}, which is missing`
      : `${directory.name} has no ${name}`;
    throw new IsqError(tag, message, { file, field: "shards", value: name });
  }
  return { names, claim };
}

/** The file of the name, or the first shard of the set that was written under it: `NAME-0.uqff`. */
async function findNamed(directory: Directory, name: string): Promise<string | null> {
  if (await directory.has(name)) return name;
  const first = `${name.replace(/\.uqff$/, "")}-0.uqff`;
  return (await directory.has(first)) ? first : null;
}

async function readReport(directory: Directory, limits: Limits): Promise<readonly UqffClaim[]> {
  const text = new TextDecoder().decode(await readFile(directory, UQFF_REPORT, limits.jsonBytes));
  return parseUqffReport(text, `${directory.name}/${UQFF_REPORT}`);
}

/** Bits as a type: mistral.rs's short names for sets. */
const TYPE_OF_BITS: Readonly<Record<string, string>> = {
  2: "q2k",
  3: "q3k",
  4: "q4k",
  5: "q5k",
  6: "q6k",
  8: "q8_0",
};

/** The type that a set is called by. Throws `type/unknown`. */
function typeOf(selection: string): string {
  return TYPE_OF_BITS[selection] ?? storedName(parseType(selection));
}

/** `NAME-0.uqff`, `NAME-1.uqff` and so on without a gap; the file alone where its name has no number. */
async function findSiblings(directory: Directory, file: string, limits: Limits): Promise<string[]> {
  const stem = /^(.*)-\d+\.uqff$/.exec(file)?.[1];
  if (stem === undefined) return [file];
  const names: string[] = [];
  while (names.length < limits.shardCount && (await directory.has(`${stem}-${names.length}.uqff`))) {
    names.push(`${stem}-${names.length}.uqff`);
  }
  return names.includes(file) ? names : [file];
}

function checkClaim(directory: Directory, claim: UqffClaim, { layers }: Uqff): void {
  const file = `${directory.name}/${UQFF_REPORT}`;
  const counts = new Map<string, number>();
  for (const { stored } of layers.values()) counts.set(stored, (counts.get(stored) ?? 0) + 1);
  const found = JSON.stringify([...counts].sort());
  const wanted = JSON.stringify(Object.entries(claim.actual_counts).sort());
  if (claim.layers === layers.size && found === wanted) return;
  const message = `${file} tells of ${claim.layers} layers, ${wanted}, and the shards have ${layers.size}, ${found}`;
  throw new IsqError("uqff/report", message, { file, field: "actual_counts", value: wanted, limit: found });
}

/** Layers by module path. Throws `uqff/layers` when numbers do not suit the model. */
function nameLayers(
  { numbered, layers, shards }: Uqff,
  weights: readonly WeightSpec[] | undefined,
): Map<string, UqffLayer> {
  if (!numbered || !weights) return new Map(layers);
  const file = shards[0].source.name;
  const lists = listIsqLayers({ weights });
  const fits = (list: readonly WeightSpec[]) =>
    list.length === layers.size &&
    list.every(({ shape }, i) => layers.get(String(i))?.shape.join() === shape.join());
  const list = lists.find(fits);
  if (list) return new Map(list.map(({ name }, i) => [moduleOf(name), layers.get(String(i))!]));
  const counts = [...new Set(lists.map(({ length }) => length))].join(" or ");
  const message = `${file} has ${layers.size} numbered layers, and they are not the ${counts} of this model`;
  throw new IsqError("uqff/layers", message, { file, field: "layers", value: layers.size, limit: counts });
}

/** The module that a weight belongs to. */
export function moduleOf(weight: string): string {
  return weight.replace(/\.weight$/, "");
}

const STACK = /^(.*\.experts)\.(gate|up|down)_proj$/;

/** Names of the experts that a stacked layer holds, with `{e}` for the number: Mixtral's have names of their own. */
export function expertPattern(key: string): string | null {
  const [, prefix, part] = STACK.exec(key) ?? [];
  if (prefix === undefined) return null;
  const own = { gate: "w1", up: "w3", down: "w2" }[part];
  return prefix.endsWith(".block_sparse_moe.experts") ? `${prefix}.{e}.${own}` : `${prefix}.{e}.${part}_proj`;
}

/** The layer that holds an expert's matrix along with those of the others; null for other modules. */
export function stackOf(module: string): { readonly key: string; readonly expert: number } | null {
  const match = /^(.*\.experts)\.(\d+)\.(?:(gate|up|down)_proj|(w[123]))$/.exec(module);
  if (!match) return null;
  const part = match[3] ?? { w1: "gate", w3: "up", w2: "down" }[match[4]];
  return { key: `${match[1]}.${part}_proj`, expert: Number(match[2]) };
}

function viewsOf(layers: ReadonlyMap<string, UqffLayer>, numbered: boolean): Map<string, View> {
  const views = new Map<string, View>();
  const add = (view: View) => views.set(view.name, view);
  for (const [key, layer] of layers) {
    const { data, bias, shape } = layer;
    const suffix = numbered && key === layer.key ? "" : ".weight";
    const dtype = layer.type ?? layer.stored;
    const pattern = shape.length === 3 && layer.type !== null ? expertPattern(key) : null;
    if (pattern === null) {
      add({ name: key + suffix, dtype, shape, byteLength: data.byteLength, at: data, layer });
      if (bias) add(biasView(`${key}.bias`, bias));
      continue;
    }
    const [experts, ...rest] = shape;
    for (let expert = 0; expert < experts; expert++) {
      const name = pattern.replace("{e}", String(expert));
      const at = partOf(data, expert, experts);
      add({ name: `${name}.weight`, dtype, shape: rest, byteLength: at.byteLength, at, layer });
      if (bias)
        add(
          biasView(`${name}.bias`, { ...bias, ...partOf(bias, expert, experts), shape: bias.shape.slice(1) }),
        );
    }
  }
  return views;
}

function biasView(name: string, { dtype, shape, ...at }: UqffVector): View {
  return { name, dtype, shape, byteLength: at.byteLength, at };
}

function partOf({ source, byteOffset, byteLength }: UqffRange, index: number, count: number): UqffRange {
  const own = byteLength / count;
  return { source, byteOffset: byteOffset + index * own, byteLength: own };
}

/** Adds all other tensors. Throws `uqff/residual` when their file is missing, `uqff/duplicate`. */
async function addResidual(
  directory: Directory,
  views: Map<string, View>,
  numbered: boolean,
  open: (file: string) => Promise<Safetensors>,
): Promise<void> {
  const file = `${directory.name}/${UQFF_RESIDUAL}`;
  if (!(await directory.has(UQFF_RESIDUAL))) {
    const message = `${directory.name} has no ${UQFF_RESIDUAL}, where the tensors are that the shards lack`;
    throw new IsqError("uqff/residual", message, { file, field: "file", value: UQFF_RESIDUAL });
  }
  const { tensors, source } = await open(UQFF_RESIDUAL);
  for (const { name, dtype, shape, byteOffset, byteLength } of tensors.values()) {
    if (views.has(name)) {
      const message = `${file}: ${quote(name)} is in the shards as well`;
      throw new IsqError("uqff/duplicate", message, { file, tensor: name, field: "name" });
    }
    const view = { name, dtype, shape, byteLength, at: { source, byteOffset, byteLength } };
    views.set(name, view);
    // Early files call phi2's last norm so.
    const own = name.replace(/^model\.norm\./, "model.final_layernorm.");
    if (numbered && own !== name && !tensors.has(own)) views.set(own, { ...view, name: own });
  }
}

function createCheckpoint(
  name: string,
  uqff: Uqff,
  views: ReadonlyMap<string, View>,
  sources: readonly ByteSource[],
  close: () => Promise<void>,
): OpenedUqff {
  const find = (tensor: string): View => {
    const view = views.get(tensor);
    if (view) return view;
    throw new IsqError("tensor/missing", `${name} has no tensor ${quote(tensor)}`, { file: name, tensor });
  };
  return {
    name,
    format: "uqff",
    uqff,
    tensors: views,
    sources,
    close,
    async read(tensor) {
      const { source, byteOffset, byteLength } = find(tensor).at;
      return readRange(source, byteOffset, byteOffset + byteLength);
    },
    async readRange(tensor, start, end) {
      const { source, byteOffset, byteLength } = find(tensor).at;
      if (!(start >= 0 && start <= end && end <= byteLength)) {
        const message = `${name}: bytes ${start} to ${end} lie outside of ${quote(tensor)}`;
        const details = { file: name, tensor, field: "range", value: [start, end], limit: byteLength };
        throw new IsqError("source/range", message, details);
      }
      return readRange(source, byteOffset + start, byteOffset + end);
    },
    readSides: async (tensor) => readSides(find(tensor)),
    locate(tensor) {
      const { source, byteOffset } = find(tensor).at;
      return source.path === undefined ? null : { path: source.path, byteOffset };
    },
  };
}

async function readSides({ layer }: View): Promise<QuantizedSides> {
  if (!layer?.type || !(layer.type in TYPES)) return {};
  const { scales, zeros, quantizeScale, dequantizeScale } = layer;
  if (scales && zeros) return { scales: await readVector(scales), zeros: await readVector(zeros) };
  if (quantizeScale === undefined || dequantizeScale === undefined) return {};
  return { quantizeScale, dequantizeScale };
}

async function readVector({
  source,
  dtype,
  shape,
  byteOffset,
  byteLength,
}: UqffVector): Promise<Float32Array> {
  const data = await readRange(source, byteOffset, byteOffset + byteLength);
  return widen({ type: dtype as "F32", shape: shape.length === 0 ? [1] : shape, data });
}
