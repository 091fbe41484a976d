/**
 * The plan: a pure, printable, hashable answer to "what will happen to each tensor, why, and what will it cost".
 * Deciding happens here and nowhere else; quantize.ts and place.ts only follow.
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { DenseType } from "./backends/backend.js";
import type { Program, WeightRole, WeightSpec } from "./backends/program.js";
import { DENSE_BYTES, isDense } from "./dense.js";
import { IsqError } from "./errors.js";
import { applyRules, checkOrganization, type Organization } from "./plan-rules.js";
import { type Algorithm, type IsqType, TYPES } from "./quants/table.js";
import { byteLengthOf, elementCount, fits, rowElements } from "./quants/tensor.js";
import { checkTopology, type Device, type TopologyRule } from "./topology.js";

/** `default` and `mistralrs` stand for an algorithm of each type's own list: the first, or `mistralrs`. */
export const ALGORITHM_CHOICES = ["default", "mistralrs"] as const;
/** One of {@link ALGORITHM_CHOICES}. */
export type AlgorithmChoice = (typeof ALGORITHM_CHOICES)[number];

/** What is asked of {@link plan}. */
export interface PlanRequest {
  /** The type for every tensor that ISQ may touch and no rule decides; null: keep. */
  readonly type: IsqType | null;
  readonly algorithm?: AlgorithmChoice;
  readonly topology?: readonly TopologyRule[];
  /** Importance by weight name, one value per input column. */
  readonly importance?: ReadonlyMap<string, Float32Array>;
  /** Importance is still to be collected, for every linear: the plan is made as if it were there. */
  readonly calibration?: boolean;
  /** Refuse every substitution: fallback types, skipped tensors, dropped importance. */
  readonly strict?: boolean;
  /** Which tensors ISQ may touch; `default` when absent. */
  readonly organization?: Organization;
  /** Layers from this one on are on the CPU, unless a rule names a device for them. */
  readonly deviceLayers?: number;
}

/** What the checkpoint holds for a weight. */
export interface SourceTensor {
  /** Tensor name in the checkpoint: the weight's own, or that of the embedding it is tied to. */
  readonly name: string;
  readonly type: DenseType | IsqType;
  /** The encoder of a quantized tensor, where the file says it. */
  readonly algorithm?: Algorithm;
  readonly shape: readonly number[];
  /** Its files have it [columns, rows]. */
  readonly transposed?: boolean;
}

/** One tensor's fate. */
export interface PlanRow {
  readonly tensor: string;
  /** Index into the program's weights. */
  readonly weight: number;
  readonly layer: number | null;
  readonly role: WeightRole;
  readonly shape: readonly number[];
  readonly source: SourceTensor;
  readonly sourceByteLength: number;
  /** What the request or a rule asked for; null: keep as it is. */
  readonly requested: IsqType | null;
  /** What the tensor will be. */
  readonly type: IsqType | DenseType;
  /** Encoder, or null when the tensor is kept, which a quantized one may be as well. */
  readonly algorithm: Algorithm | null;
  readonly importance: "none" | "used" | "dropped";
  /** Index of the topology rule that decided, or null. */
  readonly rule: number | null;
  /** Rules that cover the tensor too and that the deciding one overrules, the strongest first. */
  readonly overruled: readonly number[];
  /** The device that the rule or the request asks for; null: where the model is. */
  readonly device: Device | null;
  readonly byteLength: number;
  readonly bitsPerWeight: number;
  /** Why the result is not what was asked for, or why the tensor is kept. Null when it is plainly as requested. */
  readonly reason: string | null;
  /** True when `reason` is a substitution, which a strict plan refuses. */
  readonly substituted: boolean;
}

/** Sums over the rows of a plan. */
export interface PlanTotals {
  readonly tensors: number;
  readonly quantizedTensors: number;
  readonly elements: number;
  /** Bytes of the tensors as they are in the checkpoint; a tied head counts once. */
  readonly sourceByteLength: number;
  readonly byteLength: number;
  readonly bitsPerWeight: number;
  /** Bytes at the worst moment of quantizing: all results plus one tensor's source and its f32 values. */
  readonly peakByteLength: number;
}

/** What happens to every tensor, and what it costs. */
export interface Plan {
  readonly requested: IsqType | null;
  readonly rows: readonly PlanRow[];
  readonly totals: PlanTotals;
  /** Rules that decided for no tensor, by index. */
  readonly unusedRules: readonly number[];
  /** Names of the importance that are no weight's. */
  readonly unusedImportance: readonly string[];
  /** sha256 (hex) of everything above. */
  readonly hash: string;
}

/**
 * Decides every tensor of a program. `sourceOf` gives the checkpoint's tensor for a weight. Throws `plan/strict` for a
 * substitution in a strict plan, `plan/nothing` when a type or importance was given and no tensor can take any, and
 * `option/unsupported` for the organization `moqe` of a model without experts.
 */
export function plan(
  program: Program,
  sourceOf: (weight: WeightSpec) => SourceTensor,
  request: PlanRequest,
): Plan {
  const topology = request.topology ?? [];
  checkTopology(topology, layerCount(program));
  checkOrganization(request.organization, program);
  const rows = program.weights.map((weight, index) => planWeight(weight, index, sourceOf(weight), request));
  if (request.type !== null && rows.every(({ type }) => isDense(type))) {
    throw new IsqError("plan/nothing", `no tensor of this model can be quantized to ${request.type}`, {
      field: "isq",
      value: request.type,
    });
  }
  const hasImportance = request.importance !== undefined || request.calibration;
  if (hasImportance && rows.every((row) => row.algorithm === null)) {
    const message = "importance was given, and nothing is quantized: name a type or give rules";
    throw new IsqError("plan/nothing", message, { field: "importance", value: request.type });
  }
  const usedRules = new Set(rows.map((row) => row.rule));
  const unusedRules = topology.flatMap((_, index) => (usedRules.has(index) ? [] : [index]));
  const names = new Set(rows.map((row) => row.tensor));
  const unusedImportance = [...(request.importance?.keys() ?? [])].filter((name) => !names.has(name));
  return assemblePlan({ requested: request.type, rows, unusedRules, unusedImportance });
}

/** A plan of rows that were decided on, with its totals and its hash. */
export function assemblePlan({
  requested,
  rows,
  unusedRules,
  unusedImportance,
}: Omit<Plan, "totals" | "hash">): Plan {
  const body = { requested, rows, totals: sumRows(rows), unusedRules, unusedImportance };
  return Object.freeze({ ...body, hash: bytesToHex(sha256(utf8ToBytes(JSON.stringify(body)))) });
}

/** The encoder of a type under an algorithm choice. */
export function chooseAlgorithm(type: IsqType, choice: AlgorithmChoice = "default"): Algorithm {
  const { algorithms } = TYPES[type];
  return choice === "default" ? algorithms[0] : (algorithms.find((name) => name === choice) ?? algorithms[0]);
}

/**
 * The type a tensor of this shape can take, following the fallback chain of mistral.rs: K types fall back to a type with
 * blocks of 32; what fits neither is skipped (null).
 */
export function substituteType(
  type: IsqType,
  shape: readonly number[],
): { type: IsqType | null; reason: string | null } {
  if (fits(type, shape)) return { type, reason: null };
  const { family, blockElements, fallback } = TYPES[type];
  const measure =
    family === "block" ? `a row of ${rowElements(shape)}` : `a tensor of ${elementCount(shape)} elements`;
  const why = `${measure} is not a multiple of ${blockElements}`;
  if (fallback === null) return { type: null, reason: `skipped: ${why} (${type})` };
  const next = substituteType(fallback, shape);
  return { type: next.type, reason: next.type === null ? next.reason : `${type} → ${next.type}: ${why}` };
}

function planWeight(weight: WeightSpec, index: number, source: SourceTensor, request: PlanRequest): PlanRow {
  const sourceByteLength = storedByteLength(source.type, weight.shape, weight.name);
  const { requested, reason, ...ruled } = applyRules(weight, request);
  const base = {
    ...ruled,
    tensor: weight.name,
    weight: index,
    layer: weight.layer,
    role: weight.role,
    shape: weight.shape,
    source,
    sourceByteLength,
  };
  const keep = (requested: IsqType | null, reason: string | null, substituted: boolean): PlanRow => ({
    ...base,
    requested,
    type: source.type,
    algorithm: null,
    importance: "none",
    byteLength: source.name === weight.name ? sourceByteLength : 0,
    bitsPerWeight: (sourceByteLength * 8) / elementCount(weight.shape),
    reason: source.name === weight.name ? reason : `shares the data of ${source.name}`,
    substituted,
  });

  if (requested === null) return keep(null, reason, false);
  const substitute = substituteType(requested, weight.shape);
  if (substitute.reason !== null) refuseIfStrict(request, weight.name, substitute.reason);
  if (substitute.type === null) return keep(requested, substitute.reason, true);

  const { type } = substitute;
  if (type === source.type) return keep(requested, `already ${type}: its bytes are copied`, false);
  const algorithm = chooseAlgorithm(type, request.algorithm);
  const importance = planImportance(request, weight, type, algorithm);
  if (importance.reason !== null) refuseIfStrict(request, weight.name, importance.reason);
  const reasons = [tiedReason(weight, source), substitute.reason, importance.reason].filter(
    (r) => r !== null,
  );
  return {
    ...base,
    requested,
    type,
    algorithm,
    importance: importance.use,
    byteLength: byteLengthOf(type, weight.shape),
    bitsPerWeight: (byteLengthOf(type, weight.shape) * 8) / elementCount(weight.shape),
    reason: reasons.length > 0 ? reasons.join("; ") : null,
    substituted: substitute.reason !== null || importance.reason !== null,
  };
}

/** Bytes of a tensor of either kind. */
function storedByteLength(type: DenseType | IsqType, shape: readonly number[], name: string): number {
  return isDense(type) ? elementCount(shape, name) * DENSE_BYTES[type] : byteLengthOf(type, shape);
}

function layerCount({ weights }: Program): number {
  return weights.reduce((most, { layer }) => Math.max(most, layer === null ? 0 : layer + 1), 0);
}

/** What calibration collects importance for: what ISQ may touch without being told by a rule. */
export const COLLECTED_ROLES: readonly WeightRole[] = ["linear", "expert", "head"];

function planImportance(
  request: PlanRequest,
  weight: WeightSpec,
  type: IsqType,
  algorithm: Algorithm,
): { use: PlanRow["importance"]; reason: string | null } {
  if (!request.importance && !request.calibration) return { use: "none", reason: null };
  const vector = request.importance?.get(weight.name);
  const awaited = request.calibration && COLLECTED_ROLES.includes(weight.role);
  if (!vector && !awaited) return { use: "none", reason: "no importance was collected for it" };
  if (!TYPES[type].importance.includes(algorithm)) {
    return { use: "dropped", reason: `importance dropped: ${type} (${algorithm}) has no importance variant` };
  }
  if (!vector) return { use: "used", reason: null };
  if (vector.length !== rowElements(weight.shape)) {
    const columns = rowElements(weight.shape);
    return { use: "dropped", reason: `importance dropped: ${vector.length} values for ${columns} columns` };
  }
  if (!vector.every((v) => v >= 0 && v < Number.POSITIVE_INFINITY)) {
    return { use: "dropped", reason: "importance dropped: it has a negative or non-finite value" };
  }
  if (vector.every((v) => v === 0)) return { use: "dropped", reason: "importance dropped: it is all zeros" };
  return { use: "used", reason: null };
}

function tiedReason(weight: WeightSpec, source: SourceTensor): string | null {
  return source.name === weight.name ? null : `a quantized copy of ${source.name}, which stays as it is`;
}

function refuseIfStrict(request: PlanRequest, tensor: string, reason: string): void {
  if (!request.strict) return;
  throw new IsqError("plan/strict", `${tensor}: ${reason}; the plan is strict`, {
    tensor,
    field: "strict",
    value: reason,
  });
}

function sumRows(rows: readonly PlanRow[]): PlanTotals {
  const sum = (pick: (row: PlanRow) => number) => rows.reduce((total, row) => total + pick(row), 0);
  const elements = sum((row) => elementCount(row.shape));
  const byteLength = sum((row) => row.byteLength);
  const working = rows.map((row) =>
    row.algorithm === null ? row.sourceByteLength : row.sourceByteLength + 4 * elementCount(row.shape),
  );
  const bySource = new Map(rows.map((row) => [row.source.name, row.sourceByteLength]));
  return {
    tensors: rows.length,
    quantizedTensors: rows.filter((row) => !isDense(row.type)).length,
    elements,
    sourceByteLength: [...bySource.values()].reduce((total, bytes) => total + bytes, 0),
    byteLength,
    bitsPerWeight: (byteLength * 8) / elements,
    peakByteLength: byteLength + Math.max(0, ...working),
  };
}
