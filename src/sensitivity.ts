/**
 * Which part of a model hurts most when it alone is quantized: every part is swapped into the running model, one type after the
 * other, and the predictions are held against those of the unquantized model on the same tokens.
 */

import { type Loading, workOptions } from "./calibrated-load.js";
import type { Chunk } from "./chunks.js";
import { klDivergence } from "./divergence.js";
import { checkAborted } from "./errors.js";
import { expertGroupOf } from "./importance.js";
import type { OpenedModel } from "./load.js";
import { scoredRows } from "./measure.js";
import type { LanguageModel } from "./model/language-model.js";
import { createPlacer, placeModel } from "./place.js";
import { COLLECTED_ROLES, type Plan, type PlanRequest, type PlanRow, plan } from "./plan.js";
import {
  type Budget,
  checkBudget,
  type ModelPart,
  type PartOption,
  type Proposal,
  proposeTypes,
} from "./propose.js";
import type { IsqType } from "./quants/table.js";
import { elementCount } from "./quants/tensor.js";
import { betweenSteps } from "./re-isq.js";

/** How far measuring is: every part with every type is one step. */
export interface SensitivityProgress {
  readonly done: number;
  readonly total: number;
  /** What was measured last. */
  readonly part: string;
  readonly type: IsqType;
  readonly divergence: number;
}

/** What {@link TextModelBuilder.measureSensitivity} tries. */
export interface SensitivityOptions {
  readonly types: readonly IsqType[];
  /** Also the embeddings, which ISQ touches only where a rule names them. */
  readonly embeddings?: boolean;
  /** Bits per weight, over the whole model, that a mix of the types is proposed for. */
  readonly targetBits?: number;
  readonly signal?: AbortSignal;
  /** Called after every step. */
  readonly onProgress?: (progress: SensitivityProgress) => void;
}

/** All parts quantized to one type. */
export interface UniformResult {
  readonly type: IsqType;
  readonly bitsPerWeight: number;
  readonly divergence: number;
}

/**
 * What quantizing each part alone does, in nats of KL divergence per token, and a mix of types where one was asked for.
 */
export interface SensitivityResult extends Omit<Budget, "targetBits"> {
  readonly parts: readonly ModelPart[];
  readonly uniform: readonly UniformResult[];
  /** Tokens predicted. */
  readonly predictions: number;
  /** With what the whole of it was measured to do. */
  readonly proposal: (Proposal & { readonly divergence: number }) | null;
}

/**
 * Measures every part alone, all parts together, and what is proposed. The logits of the unquantized model are kept in memory
 * meanwhile. Throws as plan and placeModel, `option/invalid` for a target that cannot be reached, `aborted`.
 */
export async function measureSensitivity(
  loading: Loading,
  request: PlanRequest,
  chunks: readonly Chunk[],
  { types, embeddings = false, targetBits, signal, onProgress }: SensitivityOptions,
): Promise<SensitivityResult> {
  const { program, sourceOf, checkpoint } = loading.opened;
  const stored = plan(program, sourceOf, { type: null });
  const groups = groupParts(stored.rows, embeddings);
  const decided = types.map((type) => planAll(loading.opened, request, type, groups));
  const { elements, byteLength } = stored.totals;
  const fixedBits = 8 * byteLength - bitsOf(groups.flatMap(({ rows }) => rows));
  if (targetBits !== undefined) {
    const plans = [stored, ...decided];
    const smallest = groups.map(({ rows }) => Math.min(...plans.map((each) => bitsOf(sameRows(rows, each)))));
    checkBudget(smallest, { targetBits, elements, fixedBits });
  }
  await placeModel(stored, checkpoint, loading.backend, loading.session, signal ? { signal } : {});
  const meter = await createMeter(loading.language, chunks, signal);
  const swap = createSwapper(loading, request, signal);
  const total = groups.length * types.length + types.length;
  let done = 0;
  const measure = async (rows: readonly PlanRow[], part: string, type: IsqType): Promise<number> => {
    await swap(rows);
    const divergence = await meter.divergence();
    onProgress?.({ done: ++done, total, part, type, divergence });
    return divergence;
  };

  const parts: ModelPart[] = [];
  for (const group of groups) {
    const options = new Map<string, PartOption>();
    for (const each of decided) {
      const own = sameRows(group.rows, each);
      const type = own[0].type as IsqType;
      if (own[0].algorithm === null || options.has(type)) done++;
      else options.set(type, { type, bits: bitsOf(own), divergence: await measure(own, group.name, type) });
    }
    await swap(group.rows);
    const kept: PartOption = { type: null, bits: bitsOf(group.rows), divergence: 0 };
    parts.push(describePart(group, [...options.values(), kept]));
  }
  const uniform: UniformResult[] = [];
  for (const [i, each] of decided.entries()) {
    const own = groups.flatMap((group) => sameRows(group.rows, each));
    const divergence = await measure(own, "all parts", types[i]);
    uniform.push({ type: types[i], bitsPerWeight: each.totals.bitsPerWeight, divergence });
  }
  const result = { parts, uniform, predictions: meter.predictions, elements, fixedBits };
  if (targetBits === undefined) return { ...result, proposal: null };
  const proposal = proposeTypes(parts, { targetBits, elements, fixedBits });
  const chosen = proposal.parts.flatMap(({ part, type }) => {
    const from =
      type === null ? stored : decided.find(({ rows }) => rowOf(rows, part.tensors[0]).type === type)!;
    return part.tensors.map((tensor) => rowOf(from.rows, tensor));
  });
  await swap(chosen);
  return { ...result, proposal: { ...proposal, divergence: await meter.divergence() } };
}

interface Group {
  readonly name: string;
  /** As they are stored. */
  readonly rows: readonly PlanRow[];
}

/** What is swapped together: a tensor, or all experts of a layer that do the same. */
function groupParts(rows: readonly PlanRow[], embeddings: boolean): Group[] {
  const groups = new Map<string, PlanRow[]>();
  for (const row of rows) {
    if (!COLLECTED_ROLES.includes(row.role) && !(embeddings && row.role === "embedding")) continue;
    const name = expertGroupOf(row.tensor);
    const group = groups.get(name);
    if (group) group.push(row);
    else groups.set(name, [row]);
  }
  return [...groups].map(([name, rows]) => ({ name, rows }));
}

function describePart({ name, rows }: Group, options: readonly PartOption[]): ModelPart {
  return {
    name,
    tensors: rows.map(({ tensor }) => tensor),
    layer: rows[0].layer,
    elements: rows.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    options,
  };
}

/** The plan for one type everywhere, in embeddings too where they are parts. */
function planAll(opened: OpenedModel, request: PlanRequest, type: IsqType, groups: readonly Group[]): Plan {
  const tables = groups.flatMap(({ rows }) => rows.filter(({ role }) => role === "embedding"));
  const topology = tables.map(({ tensor }) => {
    const pattern = { source: tensor, test: (name: string) => name === tensor };
    return { pattern, isq: type };
  });
  return plan(opened.program, opened.sourceOf, { ...request, type, topology });
}

const bitsOf = (rows: readonly PlanRow[]) => rows.reduce((sum, { byteLength }) => sum + 8 * byteLength, 0);

/** The rows of the same weights in another plan. */
const sameRows = (rows: readonly PlanRow[], { rows: others }: Plan) =>
  rows.map(({ weight }) => others[weight]);

const rowOf = (rows: readonly PlanRow[], tensor: string) => rows.find((row) => row.tensor === tensor)!;

/** Puts rows into the running model, together. */
function createSwapper({ opened, backend, language }: Loading, request: PlanRequest, signal?: AbortSignal) {
  const options = workOptions(request, signal ? { signal } : {});
  const target = betweenSteps(language);
  return async (rows: readonly PlanRow[]): Promise<void> => {
    checkAborted(signal);
    const place = createPlacer({ rows }, opened.checkpoint, backend, target, options);
    for (const row of rows) await place(row);
  };
}

interface Meter {
  readonly predictions: number;
  /** Mean divergence of the model as it is from what it was. */
  divergence(): Promise<number>;
}

/** Keeps the logits of the model as it is. */
async function createMeter(
  language: LanguageModel,
  chunks: readonly Chunk[],
  signal: AbortSignal | undefined,
): Promise<Meter> {
  const { vocabulary } = language.program;
  const options = signal ? { signal } : {};
  const expected: Float32Array[] = [];
  for (const { tokens } of chunks) expected.push(await language.logits(tokens, options));
  const predictions = chunks.reduce((sum, { tokens, scoredFrom }) => sum + tokens.length - 1 - scoredFrom, 0);
  return {
    predictions,
    async divergence() {
      let sum = 0;
      for (const [i, chunk] of chunks.entries()) {
        await language.visitLogits(
          chunk.tokens,
          (logits, firstRow) => {
            const { first, last } = scoredRows(chunk, firstRow, logits.length / vocabulary);
            const before = expected[i].subarray(first * vocabulary, last * vocabulary);
            const now = logits.subarray((first - firstRow) * vocabulary, (last - firstRow) * vocabulary);
            for (const value of klDivergence(before, now, vocabulary).divergence) sum += value;
          },
          options,
        );
      }
      return sum / predictions;
    },
  };
}
