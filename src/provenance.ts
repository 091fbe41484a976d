/** What a saved file says about where it comes from: enough to make it again, and nothing that differs from run to run. */

import type { Checkpoint } from "./files/checkpoint.js";
import type { GgufMetadata, GgufValue } from "./files/gguf-values.js";
import { hashSource } from "./hash.js";
import type { AlgorithmChoice, Plan } from "./plan.js";
import { NUMERICS_PROFILE, VERSION } from "./version.js";

/** Keys without the `isq.` in front; lists have their items separated by spaces. */
export type Provenance = Readonly<Record<string, string>>;

/** Hashes of all files of a checkpoint with their names. Reads them whole. Throws `source/*`, `aborted`. */
export async function hashSources(checkpoint: Checkpoint, signal?: AbortSignal): Promise<string> {
  const sources: string[] = [];
  for (const source of checkpoint.sources) {
    const sha256 = await hashSource(source, signal ? { signal } : {});
    sources.push(`${sha256}:${source.name.replace(/^.*[/\\]/, "")}`); // folders differ between machines
  }
  return sources.join(" ");
}

export interface ProvenanceRequest {
  readonly algorithm: AlgorithmChoice;
  readonly importance?: ReadonlyMap<string, Float32Array> | undefined;
  /** As {@link hashSources} gives them. */
  readonly sources: string;
}

/** A plan's hash covers types, algorithms and reasons. */
export async function describeProvenance(
  plan: Plan,
  { algorithm, importance, sources }: ProvenanceRequest,
): Promise<Provenance> {
  const encoders = plan.rows.flatMap(({ type, algorithm }) => (algorithm ? [`${type}=${algorithm}`] : []));
  const hash = await hashImportance(plan, importance);
  return {
    version: VERSION,
    numerics: NUMERICS_PROFILE,
    algorithm,
    encoders: [...new Set(encoders)].sort().join(" "),
    plan: plan.hash,
    sources,
    ...(hash !== null && { importance: hash }),
  };
}

/** The hash of all vectors that the plan uses, in its order; null without any. */
async function hashImportance(
  { rows }: Plan,
  importance: ReadonlyMap<string, Float32Array> | undefined,
): Promise<string | null> {
  const used = rows.filter((row) => row.importance === "used");
  if (used.length === 0 || !importance) return null;
  const { openHasher } = await import("#platform");
  const hasher = openHasher();
  for (const { tensor } of used) {
    const values = importance.get(tensor)!;
    const bytes = new DataView(new ArrayBuffer(4 * values.length));
    for (let i = 0; i < values.length; i++) bytes.setFloat32(4 * i, values[i], true);
    hasher.update(new Uint8Array(bytes.buffer));
  }
  return hasher.finish();
}

/** As metadata of a GGUF file. */
export function provenanceKeys(provenance: Provenance): GgufMetadata {
  const entries = Object.entries(provenance);
  return new Map(
    entries.map(([key, value]): [string, GgufValue] => [`isq.${key}`, { type: "string", value }]),
  );
}

/** As metadata of a safetensors file. */
export function provenanceTexts(provenance: Provenance): Record<string, string> {
  return Object.fromEntries(Object.entries(provenance).map(([key, value]) => [`isq.${key}`, value]));
}
