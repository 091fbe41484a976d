/**
 * Importance by weight: an importance matrix has the names of the program that wrote it, and here they become the names of
 * a model's weights; and back, for writing one.
 */

import type { Program, WeightSpec } from "./backends/program.js";
import { IsqError } from "./errors.js";
import { type Imatrix, type ImatrixEntry, meansOf } from "./files/imatrix-entry.js";
import { LAYER_NAMES } from "./model/gguf/layer-names.js";
import { ggufNamesOf } from "./model/gguf/names.js";
import { listIsqLayers } from "./model/isq-layers.js";
import { rowElements } from "./quants/tensor.js";

/** Means of squared activations by weight name, one value per input column. */
export type Importance = ReadonlyMap<string, Float32Array>;

/** What of a program has names. */
type Weights = Pick<Program, "weights">;

/** A name under which a matrix may have a weight's values, and which expert the weight is, where the entry has all of them. */
interface Candidate {
  readonly name: string;
  readonly expert: number | null;
}

const EXPERT = /\.experts\.(\d+)\./;
const SUFFIX = /\.weight$/;

/**
 * The values of an importance matrix for the weights of a model. Entries that suit no weight stay under their own names, so
 * that the plan can tell of them. Throws `imatrix/layers` when numbered entries do not suit the model.
 */
export function matchImportance(matrix: Imatrix, program: Weights): Importance {
  if (matrix.format === "cimatrix-v1") return matchNumbers(matrix, program);
  const means = new Map([...matrix.entries].map(([name, entry]) => [name, meansOf(entry)]));
  const experts = countExperts(program);
  const used = new Set<string>();
  const importance = new Map<string, Float32Array>();
  for (const weight of program.weights) {
    const found = candidatesOf(weight.name).find(({ name }) => means.has(name));
    if (!found) continue;
    used.add(found.name);
    const values = means.get(found.name)!;
    const count = experts.get(groupOf(weight.name)) ?? 1;
    importance.set(weight.name, pickExpert(values, weight, found, count));
  }
  for (const [name, values] of means) if (!used.has(name)) importance.set(name, values);
  return importance;
}

/** An expert's part of what may be the values of all, one after the other, or one vector that they share. */
function pickExpert(
  values: Float32Array,
  weight: WeightSpec,
  { expert }: Candidate,
  experts: number,
): Float32Array {
  const columns = rowElements(weight.shape);
  // Of any other length it goes to the plan as it is, which refuses it with the lengths.
  if (expert === null || values.length !== experts * columns) return values;
  return values.subarray(expert * columns, (expert + 1) * columns);
}

/** Names that a weight's entry may have, the most exact first. */
function candidatesOf(weight: string): Candidate[] {
  const path = weight.replace(SUFFIX, "");
  const own: Candidate[] = [
    { name: path, expert: null },
    { name: weight, expert: null },
  ];
  const expert = EXPERT.exec(weight)?.[1];
  if (expert !== undefined) own.push({ name: groupOf(path), expert: Number(expert) });
  const gguf = ggufNamesOf(LAYER_NAMES, weight).map(({ name, expert }) => ({ name, expert }));
  return [...own, ...gguf, ...gguf.flatMap(joinedNames)];
}

/** Entries of matrices that some files have joined: the same inputs go into all of their parts. */
function joinedNames({ name, expert }: Candidate): Candidate[] {
  const joined = [
    name.replace(/\.attn_[qkv]\.weight$/, ".attn_qkv.weight"),
    name.replace(/\.ffn_(gate|up)_exps\.weight$/, ".ffn_gate_up_exps.weight"),
    name.replace(/\.ffn_(gate|up)\.weight$/, ".ffn_gate_up.weight"),
  ];
  return joined.filter((other) => other !== name).map((other) => ({ name: other, expert }));
}

/** Experts of one layer and one matrix share this name. */
function groupOf(name: string): string {
  return name.replace(EXPERT, ".experts.");
}

function countExperts({ weights }: Weights): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { name } of weights) {
    const expert = EXPERT.exec(name)?.[1];
    if (expert === undefined) continue;
    counts.set(groupOf(name), Math.max(counts.get(groupOf(name)) ?? 0, Number(expert) + 1));
  }
  return counts;
}

/** Numbers count the layers of mistral.rs's list, and nothing but their lengths shows whether it was the same list. */
function matchNumbers({ entries }: Imatrix, program: Weights): Importance {
  const layers = listIsqLayers(program);
  const importance = new Map<string, Float32Array>();
  for (const [name, entry] of entries) {
    const index = Number(name);
    const columns = index < layers.length ? rowElements(layers[index].shape) : 0;
    if (columns !== entry.sums.length) {
      const reason =
        columns === 0 ? `there are ${layers.length}` : `${layers[index].name} has ${columns} columns`;
      const message = `the importance matrix has ${entry.sums.length} values for layer ${index}, and ${reason}`;
      throw new IsqError("imatrix/layers", message, { field: "layer", value: index, limit: layers.length });
    }
    importance.set(layers[index].name, meansOf(entry));
  }
  return importance;
}

interface Part {
  readonly weight: WeightSpec;
  readonly values: Float32Array;
  readonly expert: number | null;
}

/**
 * Importance as entries to write: under module paths for `cimatrix`, under GGUF's names for `gguf`; experts of one layer
 * become one entry, with zeros for those that have no values. Throws `importance/length` for values that do not suit their
 * weight, and `tensor/missing` for a weight that GGUF has no name for.
 */
export function importanceEntries(
  importance: Importance,
  program: Program,
  format: "cimatrix" | "gguf",
): Map<string, ImatrixEntry> {
  const experts = countExperts(program);
  const parts = new Map<string, Part[]>();
  for (const weight of program.weights) {
    const values = importance.get(weight.name);
    if (!values) continue;
    checkLength(weight, values);
    const { name, expert } = format === "gguf" ? ggufPlace(weight) : modulePlace(weight);
    const list = parts.get(name) ?? [];
    list.push({ weight, values, expert });
    parts.set(name, list);
  }
  return new Map([...parts].map(([name, list]) => [name, joinParts(list, experts)]));
}

function joinParts(parts: readonly Part[], experts: ReadonlyMap<string, number>): ImatrixEntry {
  const [{ weight, values, expert }] = parts;
  const matrices = expert === null ? 1 : (experts.get(groupOf(weight.name)) ?? 1);
  const sums = new Float32Array(matrices * values.length);
  const counts = new Array<number>(matrices).fill(0);
  for (const part of parts) {
    sums.set(part.values, (part.expert ?? 0) * values.length);
    counts[part.expert ?? 0] = 1;
  }
  return { sums, counts };
}

function modulePlace({ name }: WeightSpec): Candidate {
  const expert = EXPERT.exec(name)?.[1];
  return { name: groupOf(name).replace(SUFFIX, ""), expert: expert === undefined ? null : Number(expert) };
}

function ggufPlace({ name: tensor }: WeightSpec): Candidate {
  const [found] = ggufNamesOf(LAYER_NAMES, tensor);
  if (found) return { name: found.name, expert: found.expert };
  throw new IsqError("tensor/missing", `GGUF has no name for ${tensor}`, { tensor, field: "name" });
}

function checkLength({ name: tensor, shape }: WeightSpec, { length }: Float32Array): void {
  const limit = rowElements(shape);
  if (length === limit) return;
  const message = `${tensor} has ${length} values of importance for ${limit} columns`;
  throw new IsqError("importance/length", message, { tensor, field: "importance", value: length, limit });
}
