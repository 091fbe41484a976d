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

/** A tensor's name, with `*` in place of the expert, so that experts of one layer and one matrix share it. */
export function expertGroupOf(name: string): string {
  return name.replace(EXPERT, ".experts.*.");
}

/** As mistral.rs calls them together. */
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

/** Numbers count the layers of one of mistral.rs's lists, and nothing but their lengths shows which it was. */
function matchNumbers({ entries }: Imatrix, program: Weights): Importance {
  const lists = listIsqLayers(program);
  const misfit = (list: readonly WeightSpec[]) =>
    [...entries].find(([name, { sums }]) => columnsOf(list[Number(name)]) !== sums.length);
  const layers = lists.find((list) => !misfit(list));
  if (layers)
    return new Map([...entries].map(([name, entry]) => [layers[Number(name)].name, meansOf(entry)]));
  const [name, { sums }] = misfit(lists[0])!;
  const [index, layer] = [Number(name), lists[0][Number(name)]];
  const reason = layer ? `${layer.name} has ${columnsOf(layer)} columns` : `there are ${lists[0].length}`;
  const message = `the importance matrix has ${sums.length} values for layer ${index}, and ${reason}`;
  throw new IsqError("imatrix/layers", message, { field: "layer", value: index, limit: lists[0].length });
}

function columnsOf(layer: WeightSpec | undefined): number {
  return layer ? rowElements(layer.shape) : 0;
}

/** How entries are called: by module paths, or by GGUF's names. */
export type EntryNames = "cimatrix" | "gguf";

/**
 * Importance as entries to write, one for each weight. Throws `importance/length` for values that do not suit their weight, and
 * `tensor/missing` for a weight that GGUF has no name for.
 */
export function importanceEntries(
  importance: Importance,
  program: Program,
  names: EntryNames,
): Map<string, ImatrixEntry> {
  return joinEntries(
    new Map([...importance].map(([name, sums]) => [name, { sums, counts: [1] }])),
    program,
    names,
  );
}

/**
 * One entry for each weight becomes the entries of a file: experts of one layer are joined, with zeros for those that have no
 * values. Throws `importance/length`, and `tensor/missing` for a weight that GGUF has no name for.
 */
export function joinEntries(
  entries: ReadonlyMap<string, ImatrixEntry>,
  program: Program,
  names: EntryNames,
): Map<string, ImatrixEntry> {
  const experts = countExperts(program);
  const parts = new Map<string, Part[]>();
  for (const weight of program.weights) {
    const entry = entries.get(weight.name);
    if (!entry) continue;
    checkLength(weight, entry.sums);
    const { name, expert } = names === "gguf" ? ggufPlace(weight) : modulePlace(weight);
    const list = parts.get(name) ?? [];
    list.push({ weight, entry, expert });
    parts.set(name, list);
  }
  return new Map([...parts].map(([name, list]) => [name, joinParts(list, experts)]));
}

interface Part {
  readonly weight: WeightSpec;
  readonly entry: ImatrixEntry;
  readonly expert: number | null;
}

function joinParts(parts: readonly Part[], experts: ReadonlyMap<string, number>): ImatrixEntry {
  const [{ weight, entry, expert }] = parts;
  const columns = entry.sums.length;
  const matrices = expert === null ? 1 : (experts.get(groupOf(weight.name)) ?? 1);
  const sums = new Float32Array(matrices * columns);
  const counts = new Array<number>(matrices).fill(0);
  for (const { entry, expert } of parts) {
    sums.set(entry.sums, (expert ?? 0) * columns);
    counts[expert ?? 0] = entry.counts[0];
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
