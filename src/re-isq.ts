/**
 * Changing the types of a running model. The tensors of a layer are made one after the other beside the old ones, and all of
 * them are swapped between two steps; a layer of which one fails keeps what it had. Texts go on meanwhile.
 */

import type { Backend } from "./backends/backend.js";
import type { WeightSpec } from "./backends/program.js";
import { checkAborted, type ErrorDetails, type ErrorTag, IsqError, isIsqError } from "./errors.js";
import type { ByteSource } from "./files/source.js";
import type { LanguageModel } from "./model/language-model.js";
import { createPause } from "./model/pause.js";
import { createPlacer, type Placeable } from "./place.js";
import type { Plan, PlanRow, SourceTensor } from "./plan.js";
import type {
  QuantizeModelOptions,
  QuantizeProgress,
  QuantizeReport,
  TensorReport,
  TensorSource,
} from "./quantize.js";

/** Where the values come from: the files that the model was loaded from, or the weights as they run now. */
export type ReIsqOrigin = "source" | "resident";

/** A layer that kept its old weights. */
export interface ReIsqFailure {
  /** Null for tensors outside of the layers, each of which is on its own. */
  readonly layer: number | null;
  /** The tensor that failed, or null when all of them could be made and not be swapped. */
  readonly tensor: string | null;
  /** Without a tag when it is no error of ours. */
  readonly error: { readonly tag: ErrorTag | null; readonly message: string; readonly details: ErrorDetails };
}

/** What was changed, from which values, and what was left as it was. */
export interface ReIsqReport extends QuantizeReport {
  readonly from: ReIsqOrigin;
  /** Why resident weights were taken where nobody asked for them; null otherwise. */
  readonly reason: string | null;
  readonly failures: readonly ReIsqFailure[];
}

/** How far a change is, in tensors and in layers. */
export interface ReIsqProgress extends QuantizeProgress {
  /** Layers, and tensors outside of layers, that are finished: swapped or failed. */
  readonly layersDone: number;
  readonly layers: number;
}

/** How the types of a running model are changed. */
export interface ReIsqOptions extends Omit<QuantizeModelOptions, "importance" | "onProgress"> {
  /** `source` while its files are as they were when the model was opened, else `resident`, when absent. */
  readonly from?: ReIsqOrigin;
  /** Called after every tensor. */
  readonly onProgress?: (progress: ReIsqProgress) => void;
}

/** What a swap needs to know and whom it tells. */
export interface Swap {
  readonly language: LanguageModel;
  readonly backend: Backend;
  readonly source: TensorSource;
  readonly importance: ReadonlyMap<string, Float32Array> | undefined;
  /** Rows that change, in the order of the plan. */
  readonly rows: readonly PlanRow[];
  /** Rows of a layer are in force. */
  readonly onSwap: (rows: readonly PlanRow[]) => void;
}

/**
 * Swaps layer by layer. Throws `aborted` between tensors: then the layers before are swapped and the others are not.
 * Whatever else goes wrong with a layer is among the failures.
 */
export async function swapLayers(
  swap: Swap,
  options: ReIsqOptions,
): Promise<{ tensors: TensorReport[]; failures: ReIsqFailure[] }> {
  const { rows, backend, source, importance } = swap;
  const { signal, onProgress, measureError = false } = options;
  const tensors: TensorReport[] = [];
  const failures: ReIsqFailure[] = [];
  const work = { measureError, ...(signal && { signal }), ...(importance && { importance }) };
  const place = createPlacer({ rows }, source, backend, betweenSteps(swap.language), work);
  const groups = groupByLayer(rows);
  let done = 0;
  let layersDone = 0;
  const pause = createPause();
  const perform = async (row: PlanRow): Promise<TensorReport> => {
    await pause(); // a text that runs gets its turn
    checkAborted(signal);
    const started = performance.now();
    const outcome = await place(row);
    done++;
    onProgress?.({ done, total: rows.length, row, layersDone, layers: groups.length });
    return { ...row, ...outcome, seconds: (performance.now() - started) / 1000 };
  };
  for (const group of groups) {
    const first = done;
    const result = await swapGroup(group, swap, perform);
    if (Array.isArray(result)) tensors.push(...result);
    else failures.push(result);
    done = first + group.length;
    layersDone++;
  }
  return { tensors, failures };
}

/** The reports of the tensors, all in force, or the failure, with none of them in force. */
async function swapGroup(
  group: readonly PlanRow[],
  { language, onSwap }: Swap,
  perform: (row: PlanRow) => Promise<TensorReport>,
): Promise<TensorReport[] | ReIsqFailure> {
  const made: TensorReport[] = [];
  try {
    await language.between((session) => session.hold());
    for (const row of group) made.push(await perform(row));
    await language.between(async (session) => {
      await session.commit();
      onSwap(group);
    });
    return made;
  } catch (error) {
    // What cannot be discarded belongs to a session that is gone, and the first error says so.
    await language.between((session) => session.discard()).catch(() => {});
    if (isIsqError(error, "aborted")) throw error;
    const { layer } = group[0];
    return { layer, tensor: group[made.length]?.tensor ?? null, error: describeError(error) };
  }
}

function describeError(error: unknown): ReIsqFailure["error"] {
  if (isIsqError(error)) return error.toJSON();
  return { tag: null, message: error instanceof Error ? error.message : String(error), details: {} };
}

/** Tensors of one layer together, those outside of layers each alone. */
function groupByLayer(rows: readonly PlanRow[]): PlanRow[][] {
  const groups = new Map<string, PlanRow[]>();
  for (const row of rows) {
    const key = row.layer === null ? row.tensor : String(row.layer);
    const group = groups.get(key);
    if (group) group.push(row);
    else groups.set(key, [row]);
  }
  return [...groups.values()];
}

/** A running model as a place for weights. */
export function betweenSteps(language: LanguageModel): Placeable {
  return {
    place: (weight, tensor) => language.between((session) => session.place(weight, tensor)),
    canPlaceFile: (weight) => language.canPlaceFile(weight),
    placeFile: (...args) => language.between((session) => session.placeFile!(...args)),
  };
}

/** Rows that are to be made anew: of another type or encoder, with other importance, or from other values. */
export function changedRows(
  next: Plan,
  current: Plan,
  { from, sameImportance }: { from: ReIsqOrigin; sameImportance: boolean },
): PlanRow[] {
  return next.rows.filter((row, index) => {
    if (from === "resident" && row.algorithm === null) return false; // it is there already
    const before = current.rows[index];
    const same = row.type === before.type && row.algorithm === before.algorithm;
    if (!same || row.importance !== before.importance) return true;
    return row.source.type !== before.source.type || (row.importance === "used" && !sameImportance);
  });
}

/** What a plan asks about weights, and where their values are read. */
export interface ValueSource {
  sourceOf(weight: WeightSpec): SourceTensor;
  readonly source: TensorSource;
}

/** The weights of a running model as the source of others; `current` says what they are. */
export function residentWeights({ rows }: Plan, language: LanguageModel): ValueSource {
  const rowOf = new Map(rows.map((row) => [row.tensor, row]));
  const read = (name: string) => language.between((session) => session.read(rowOf.get(name)!.weight));
  return {
    sourceOf({ name }) {
      const { type, shape, algorithm, source } = rowOf.get(name)!;
      const encoder = algorithm ?? source.algorithm;
      return { name, type, shape, ...(encoder && { algorithm: encoder }) };
    },
    source: {
      read: async (name) => (await read(name)).data,
      async readSides(name) {
        const tensor = await read(name);
        return "algorithm" in tensor ? tensor : {};
      },
    },
  };
}

/**
 * Where to take values from. Throws `source/changed` when the files were asked for and are not as they were when the model was
 * opened.
 */
export async function chooseOrigin(
  sources: readonly ByteSource[],
  wanted: ReIsqOrigin | undefined,
): Promise<Pick<ReIsqReport, "from" | "reason">> {
  if (wanted === "resident") return { from: "resident", reason: null };
  const changes = await Promise.all(sources.map((source) => source.findChange?.() ?? null));
  const reason = changes.find((change) => change !== null) ?? null;
  if (reason === null) return { from: "source", reason };
  if (wanted === undefined) return { from: "resident", reason };
  throw new IsqError("source/changed", `${reason}; its weights cannot be read again`, {
    field: "from",
    value: wanted,
  });
}
