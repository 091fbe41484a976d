/** UQFF, mistral.rs's files of quantized layers: the shards of one set, of either generation, as layers. */

import { IsqError } from "../errors.js";
import { LIMITS } from "../limits.js";
import { quote } from "./json.js";
import { openSafetensors, type Safetensors, type SafetensorsOptions } from "./safetensors.js";
import type { ByteSource } from "./source.js";
import { readBlob } from "./uqff-blobs.js";
import type { UqffLayer } from "./uqff-layer.js";
import { readNamedLayers } from "./uqff-named.js";

export { storedName, UQFF_VERSION, type UqffLayer, type UqffRange, type UqffVector } from "./uqff-layer.js";

export interface Uqff {
  /** `1.2.0`; `?` for a later shard alone. */
  readonly version: string;
  /** Whether keys are places in mistral.rs's list of layers, as before version 1. */
  readonly numbered: boolean;
  readonly layers: ReadonlyMap<string, UqffLayer>;
  /** Of the safetensors headers. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly shards: readonly Safetensors[];
  readonly warnings: readonly string[];
}

export interface UqffOptions extends SafetensorsOptions {
  /** What is given is one shard of several: its incomplete layers are left out, and it needs no version. */
  readonly part?: boolean;
}

const NUMBER = /^(0|[1-9]\d{0,8})$/;

/**
 * Opens the shards of a set, in their order, reading headers and what is small. Throws `uqff/*`, `safetensors/*`,
 * `source/*`.
 */
export async function openUqff(sources: readonly ByteSource[], options: UqffOptions = {}): Promise<Uqff> {
  const limits = { ...LIMITS, ...options.limits };
  const shards: Safetensors[] = [];
  for (const source of sources) shards.push(await openSafetensors(source, { limits }));
  const metadata = new Map(shards.flatMap((shard) => [...shard.metadata]));
  const generations = shards.map(({ tensors }) => {
    const names = [...tensors.keys()];
    return names.length > 0 && names.every((name) => NUMBER.test(name));
  });
  const mixed = generations.indexOf(!generations[0]);
  if (mixed >= 0) {
    const { name: file } = shards[mixed].source;
    const message = `${file} and ${shards[0].source.name} are of different generations`;
    throw new IsqError("uqff/version", message, { file, field: "generation", value: file });
  }
  if (!generations[0]) {
    const { part = false } = options;
    const named = await readNamedLayers(shards, { limits, part });
    return { ...named, numbered: false, metadata, shards };
  }
  const layers = new Map<string, UqffLayer>();
  const versions = new Set<string>();
  for (const shard of shards) {
    for (const entry of shard.tensors.values()) {
      const { layer, version } = await readBlob(shard, entry, limits);
      versions.add(version);
      const other = layers.get(layer.key)?.data.source.name;
      if (other !== undefined) {
        const { name: file } = shard.source;
        const message = `${file}: ${quote(layer.key)} is in ${other} as well`;
        throw new IsqError("uqff/duplicate", message, {
          file,
          tensor: layer.key,
          field: "name",
          value: other,
        });
      }
      layers.set(layer.key, layer);
    }
  }
  const version = [...versions].join(", ");
  return { version, numbered: true, layers, metadata, shards, warnings: [] };
}
