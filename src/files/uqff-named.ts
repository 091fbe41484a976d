/**
 * UQFF since version 1: ordinary safetensors with tensors under the paths of their modules. `K.weight.format` says how
 * `K.weight` is to be read and which small tensors belong to it; parts of one layer may lie in different shards.
 */

import { type ErrorTag, IsqError, isIsqError } from "../errors.js";
import type { Limits } from "../limits.js";
import { quote } from "./json.js";
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
  UQFF_FORMATS,
  UQFF_VERSION,
  type UqffLayer,
  type UqffVector,
} from "./uqff-layer.js";

export const VERSION_KEYS = ["major", "minor", "patch"].map((part) => `uqff.version.${part}`);
export const FORMAT_SUFFIX = ".weight.format";

/** Small tensors that say what a layer is. */
const SETTINGS = [
  "format",
  "dtype",
  "shape",
  "bits",
  "group_size",
  "axis",
  "optimization_steps",
  "round_zeros",
  "channel_wise",
  "dequant_w_scale",
  "dequant_x_scale",
  "quant_scale",
  "num_blocks",
];
const SETTING = new RegExp(`\\.weight\\.(${SETTINGS.join("|")})$`);
/** Bytes of the longest: a shape. */
const SETTING_BYTES = 64;
/** Settings that lie no farther apart are read at once, in runs up to a length: a server takes a request for each. */
const RUN_GAP_BYTES = 4096;
const RUN_BYTES = 2 ** 20;

/** Detail of errors about parts that may be in another shard. */
const MISSING = "missing";

/** A tensor and the shard it is in. */
interface Found {
  readonly shard: Safetensors;
  readonly entry: SafetensorsEntry;
}

export interface NamedLayers {
  readonly version: string;
  readonly layers: ReadonlyMap<string, UqffLayer>;
  readonly warnings: readonly string[];
}

export interface NamedOptions {
  readonly limits: Limits;
  /** One shard of several: what is incomplete in it is left out. */
  readonly part?: boolean;
}

/** Reads the layers of a set of shards; no data. Throws `uqff/*`, `source/*`. */
export async function readNamedLayers(
  shards: readonly Safetensors[],
  { limits, part = false }: NamedOptions,
): Promise<NamedLayers> {
  const file = shards[0].source.name;
  const found = collect(shards);
  const settings = await readSettings(shards);
  const version = readVersion(shards, settings, part);
  const layers = new Map<string, UqffLayer>();
  const used = new Set(VERSION_KEYS);
  const keys = [...found.keys()].filter((name) => name.endsWith(FORMAT_SUFFIX));
  for (const name of keys) {
    const key = name.slice(0, -FORMAT_SUFFIX.length);
    const context = { file: found.get(name)!.shard.source.name, key, limits };
    try {
      layers.set(key, assemble(context, { found, settings, used }));
    } catch (error) {
      const incomplete = isIsqError(error, "uqff/format") && error.details[MISSING] === true;
      if (!part || !incomplete) throw error;
    }
  }
  const warnings: string[] = [];
  for (const name of found.keys()) {
    if (used.has(name) || part) continue;
    const key = /^(.*)\.weight$/.exec(name)?.[1];
    if (key !== undefined) {
      refuseLayer({ file, key }, "uqff/format", "has a weight and no weight.format", { field: "format" });
    }
    warnings.push(`${quote(name)} belongs to no layer`);
  }
  return { version, layers, warnings };
}

/** All tensors by name. The version may be in every shard. */
function collect(shards: readonly Safetensors[]): Map<string, Found> {
  const found = new Map<string, Found>();
  for (const shard of shards) {
    for (const entry of shard.tensors.values()) {
      const { name } = entry;
      const other = found.get(name)?.shard.source.name;
      if (other !== undefined && !VERSION_KEYS.includes(name)) {
        const message = `${shard.source.name}: ${quote(name)} is in ${other} as well`;
        const details = { file: shard.source.name, tensor: name, field: "name", value: other };
        throw new IsqError("uqff/duplicate", message, details);
      }
      found.set(name, { shard, entry });
    }
  }
  return found;
}

/** The bytes of all settings. */
type Settings = ReadonlyMap<SafetensorsEntry, Uint8Array>;

async function readSettings(shards: readonly Safetensors[]): Promise<Settings> {
  const bytes = new Map<SafetensorsEntry, Uint8Array>();
  for (const { source, tensors } of shards) {
    // In the order of their data.
    const list = [...tensors.values()].filter(({ name, byteLength }) => {
      return (SETTING.test(name) || VERSION_KEYS.includes(name)) && byteLength <= SETTING_BYTES;
    });
    for (let first = 0; first < list.length; ) {
      const start = list[first].byteOffset;
      let [last, end] = [first, start];
      for (; last < list.length; last++) {
        const { byteOffset, byteLength } = list[last];
        if (byteOffset > end + RUN_GAP_BYTES || byteOffset + byteLength > start + RUN_BYTES) break;
        end = byteOffset + byteLength;
      }
      const run = await readRange(source, start, end);
      for (const entry of list.slice(first, last)) {
        const offset = entry.byteOffset - start;
        bytes.set(entry, run.subarray(offset, offset + entry.byteLength));
      }
      first = last;
    }
  }
  return bytes;
}

/** Every shard that has a version must have the same; one must have it. */
function readVersion(shards: readonly Safetensors[], settings: Settings, part: boolean): string {
  const { name: file } = shards[0].source;
  const versions = new Set<string>();
  for (const { tensors } of shards) {
    if (!VERSION_KEYS.some((key) => tensors.has(key))) continue;
    const numbers = VERSION_KEYS.map((key) => {
      const entry = tensors.get(key);
      const bytes = entry && settings.get(entry);
      return entry && bytes && isScalar(entry, "U32") ? viewOf(bytes).getUint32(0, true) : "?";
    });
    versions.add(numbers.join("."));
  }
  const refuse = (problem: string, value?: unknown): never => {
    const limit = `${UQFF_VERSION.major}.${UQFF_VERSION.minor}`;
    throw new IsqError("uqff/version", `${file}: ${problem}`, { file, field: "uqff.version", value, limit });
  };
  const [version] = versions;
  if (version === undefined) return part ? "?" : refuse("there is no UQFF version in it");
  if (versions.size > 1) refuse(`its shards have the versions ${[...versions].join(" and ")}`, [...versions]);
  const [major, minor, patch] = version.split(".").map(Number);
  if (![major, minor, patch].every(Number.isInteger))
    refuse(`its UQFF version is incomplete: ${version}`, version);
  if (major !== UQFF_VERSION.major || minor > UQFF_VERSION.minor) {
    const known = `${UQFF_VERSION.major}.0 to ${UQFF_VERSION.major}.${UQFF_VERSION.minor} and 0.1`;
    refuse(`its UQFF version is ${version}, and ${known} are read`, version);
  }
  return version;
}

interface Parts {
  readonly found: ReadonlyMap<string, Found>;
  readonly settings: Settings;
  /** Names that belong to a layer. */
  readonly used: Set<string>;
}

function assemble(context: LayerContext, parts: Parts): UqffLayer {
  const number = readScalar(context, parts, "format", "U8");
  const format = UQFF_FORMATS[number];
  if (format === undefined) {
    const known = UQFF_FORMATS.map((name, i) => `${i} ${name}`).join(", ");
    const message = `has the unknown format ${number}; there are ${known}`;
    refuseLayer(context, "uqff/format", message, { field: "format", value: number, limit: UQFF_FORMATS });
  }
  const layer = READERS[format](context, parts);
  const bias = parts.found.get(`${context.key}.bias`);
  if (!bias) return layer;
  parts.used.add(bias.entry.name);
  checkBias(context, vectorOf(bias));
  return { ...layer, bias: vectorOf(bias) };
}

type Reader = (context: LayerContext, parts: Parts) => UqffLayer;

const READERS: Readonly<Record<(typeof UQFF_FORMATS)[number], Reader>> = {
  gguf(context, parts) {
    const data = need(context, parts, "weight");
    if (data.dtype !== "U8") refuseKind(context, "weight", data, "U8");
    const code = readScalar(context, parts, "dtype", "U32");
    return ggufLayer(context, code, readShape(context, parts), data);
  },
  unquantized: (context, parts) => plainLayer(context, need(context, parts, "weight")),
  hqq(context, parts) {
    const settings = {
      bits: readScalar(context, parts, "bits", "U8"),
      groupSize: readScalar(context, parts, "group_size", "U32"),
      axis: readScalar(context, parts, "axis", "U8"),
    };
    readScalar(context, parts, "optimization_steps", "U32");
    readScalar(context, parts, "round_zeros", "U8");
    readScalar(context, parts, "channel_wise", "U8");
    return hqqLayer(context, settings, readShape(context, parts), {
      data: need(context, parts, "weight"),
      scales: need(context, parts, "weight.scales"),
      zeros: need(context, parts, "weight.zeros"),
    });
  },
  fp8(context, parts) {
    const scales = {
      quantize: readScalar(context, parts, "quant_scale", "F32"),
      dequantize: readScalar(context, parts, "dequant_w_scale", "F32"),
    };
    readScalar(context, parts, "dequant_x_scale", "F32");
    readScalar(context, parts, "dtype", "U32");
    return fp8Layer(context, need(context, parts, "weight"), scales);
  },
  afq(context, parts) {
    need(context, parts, "weight.scales");
    need(context, parts, "weight.biases");
    readScalar(context, parts, "group_size", "U8");
    const bits = readScalar(context, parts, "bits", "U8");
    return listed(context, need(context, parts, "weight"), "afq", `afq${bits}`);
  },
  f8q8(context, parts) {
    readScalar(context, parts, "num_blocks", "U32");
    const shape = readShape(context, parts);
    return { ...listed(context, need(context, parts, "weight"), "f8q8", "f8q8"), shape };
  },
  mxfp4(context, parts) {
    need(context, parts, "weight.scales");
    return listed(context, need(context, parts, "weight"), "mxfp4", "mxfp4");
  },
};

/** A layer that nothing here can compute with. */
function listed(
  { key }: LayerContext,
  data: UqffVector,
  format: UqffLayer["format"],
  stored: string,
): UqffLayer {
  const unusable = `there is no decoder for ${stored}`;
  return { key, format, stored, type: null, unusable, shape: data.shape, data };
}

function need(context: LayerContext, { found, used }: Parts, suffix: string): UqffVector {
  const name = `${context.key}.${suffix}`;
  const one = found.get(name);
  if (!one) {
    return refuseLayer(context, "uqff/format", `lacks ${quote(suffix)}`, { field: suffix, [MISSING]: true });
  }
  used.add(name);
  return vectorOf(one);
}

function vectorOf({ shard, entry }: Found): UqffVector {
  const { dtype, shape, byteOffset, byteLength } = entry;
  return { source: shard.source, dtype, shape, byteOffset, byteLength };
}

type ScalarType = "U8" | "U32" | "F32";

function readScalar(context: LayerContext, parts: Parts, setting: string, dtype: ScalarType): number {
  const suffix = `weight.${setting}`;
  const vector = need(context, parts, suffix);
  const { entry } = parts.found.get(`${context.key}.${suffix}`)!;
  const bytes = parts.settings.get(entry);
  if (!bytes || !isScalar(entry, dtype)) return refuseKind(context, suffix, vector, `one ${dtype}`);
  const view = viewOf(bytes);
  if (dtype === "F32") return view.getFloat32(0, true);
  return dtype === "U8" ? view.getUint8(0) : view.getUint32(0, true);
}

function readShape(context: LayerContext, parts: Parts): number[] {
  const vector = need(context, parts, "weight.shape");
  const bytes = parts.settings.get(parts.found.get(`${context.key}.weight.shape`)!.entry);
  const { tensorRank } = context.limits;
  const [rank] = vector.shape;
  if (!bytes || vector.dtype !== "U32" || vector.shape.length !== 1 || rank === 0 || rank > tensorRank) {
    return refuseKind(context, "weight.shape", vector, `1 to ${tensorRank} sizes of the type U32`);
  }
  const view = viewOf(bytes);
  return Array.from({ length: rank }, (_, i) => view.getUint32(4 * i, true));
}

function isScalar({ dtype, shape, byteLength }: SafetensorsEntry, wanted: ScalarType): boolean {
  const single = shape.length === 0 || (shape.length === 1 && shape[0] === 1);
  return dtype === wanted && single && byteLength > 0;
}

function refuseKind(
  context: LayerContext,
  field: string,
  { dtype, shape }: UqffVector,
  wanted: string,
): never {
  const value = `${dtype} [${shape.join(", ")}]`;
  const tag: ErrorTag = "uqff/format";
  return refuseLayer(context, tag, `has ${quote(field)} as ${value}, not ${wanted}`, {
    field,
    value,
    limit: wanted,
  });
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
