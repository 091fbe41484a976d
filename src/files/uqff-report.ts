/**
 * `uqff_report.json`, which stands beside the shards and says what they are: per output its shards, and its layers by the
 * type they are stored as. It is the last file of a set to be written.
 */

import { IsqError } from "../errors.js";
import { quote } from "./json.js";

export const UQFF_REPORT = "uqff_report.json";
const SCHEMA = 1;

/** One set of shards. Names of fields are those of the file. */
export interface UqffOutput {
  /** The type that was asked for, as `q4k`. */
  readonly quant: string;
  readonly shards: readonly string[];
  readonly layers: number;
  /** Layers by what they are stored as. */
  readonly actual_counts: Readonly<Record<string, number>>;
  readonly fallback_count: number;
  readonly fallbacks: readonly UqffFallback[];
  readonly layer_details: readonly UqffLayerDetail[];
}

/** A layer that is not what was asked for. */
export interface UqffFallback {
  readonly module: string;
  readonly from: string;
  readonly to: string;
  readonly shape: readonly number[];
  readonly reason?: string;
}

export interface UqffLayerDetail {
  readonly module: string;
  /** What the whole model was to be. */
  readonly default_target?: string;
  /** What this layer was to be. */
  readonly resolved_target?: string;
  readonly stored: string;
  readonly shape: readonly number[];
}

/** What is read of a report: enough to check shards against it. */
export type UqffClaim = Pick<UqffOutput, "quant" | "shards" | "layers" | "actual_counts">;

export interface UqffReport {
  readonly schema: number;
  readonly generated_by: Readonly<Record<string, string>>;
  readonly uqff_version: string;
  readonly outputs: readonly UqffOutput[];
}

export function formatUqffReport(report: Omit<UqffReport, "schema">): string {
  return `${JSON.stringify({ schema: SCHEMA, ...report }, null, 2)}\n`;
}

/** Throws `uqff/report` for anything but a report. */
export function parseUqffReport(text: string, file: string): readonly UqffClaim[] {
  const refuse = (field: string, wanted: string, value: unknown): never => {
    const message = `${file}: ${field || "the content"} is not ${wanted}`;
    throw new IsqError("uqff/report", message, { file, field, value, limit: wanted });
  };
  const isRecord = (value: unknown): value is Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  let report: unknown;
  try {
    report = JSON.parse(text);
  } catch {
    return refuse("", "JSON", text.slice(0, 20));
  }
  if (!isRecord(report)) return refuse("", "an object", typeof report);
  if (report["schema"] !== SCHEMA) refuse("schema", String(SCHEMA), report["schema"]);
  const { outputs } = report;
  if (!Array.isArray(outputs) || outputs.length === 0) return refuse("outputs", "a list", typeof outputs);
  const claimed = new Set<string>();
  return outputs.map((output: unknown, i): UqffClaim => {
    const at = `outputs[${i}]`;
    if (!isRecord(output)) return refuse(at, "an object", typeof output);
    const { quant, shards, layers, actual_counts } = output;
    if (typeof quant !== "string") return refuse(`${at}.quant`, "a text", typeof quant);
    if (!Array.isArray(shards) || shards.length === 0) return refuse(`${at}.shards`, "a list", shards);
    for (const shard of shards) {
      // A plain name in the same folder: anything else could leave it (CWE-22).
      if (typeof shard !== "string" || !/^\w[\w.-]*\.uqff$/.test(shard)) {
        return refuse(`${at}.shards`, "plain names of .uqff files", shard);
      }
      if (claimed.has(shard)) refuse(`${at}.shards`, `of one output: ${quote(shard)} comes twice`, shard);
      claimed.add(shard);
    }
    if (!isCount(layers)) return refuse(`${at}.layers`, "a count", layers);
    if (!isRecord(actual_counts) || !Object.values(actual_counts).every(isCount)) {
      return refuse(`${at}.actual_counts`, "counts by type", actual_counts);
    }
    return { quant, shards, layers, actual_counts: actual_counts as Record<string, number> };
  });
}
