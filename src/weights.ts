/**
 * The weights of a running model: which plan is in force, and what changes it: another type, or importance that was collected
 * from the texts that run.
 */

import type { Backend } from "./backends/backend.js";
import type { Observation } from "./backends/observe.js";
import {
  beginObserving,
  type CollectedImportance,
  endObserving,
  entriesOf,
  importanceOfCollected,
} from "./calibrate.js";
import { IsqError } from "./errors.js";
import type { OpenedModel } from "./load.js";
import type { LanguageModel } from "./model/language-model.js";
import { assemblePlan, COLLECTED_ROLES, type Plan, type PlanRequest, type PlanRow, plan } from "./plan.js";
import type { QuantizeReport } from "./quantize.js";
import { parseType } from "./quants/tensor.js";
import {
  changedRows,
  chooseOrigin,
  type ReIsqOptions,
  type ReIsqReport,
  residentWeights,
  swapLayers,
  type ValueSource,
} from "./re-isq.js";

/** How far a calibration from live texts is. */
export interface CalibrationStatus {
  readonly collecting: boolean;
  /** Weights that importance can be collected for. */
  readonly layers: number;
  /** Those that have seen rows. */
  readonly layersTracking: number;
  /** Rows that went into all weights together, into the least and into the most used. */
  readonly totalRows: number;
  readonly minRows: number;
  readonly maxRows: number;
}

/** As of a re-ISQ, with the importance that it used. */
export interface CalibrationReport extends ReIsqReport {
  /** What was collected; see {@link encodeImatrix} for a file of it. */
  readonly collected: CollectedImportance;
}

interface ModelWeightsParts {
  readonly opened: OpenedModel;
  readonly backend: Backend;
  readonly language: LanguageModel;
  readonly report: QuantizeReport;
  readonly request: PlanRequest;
}

export class ModelWeights {
  readonly #parts: ModelWeightsParts;
  #request: PlanRequest;
  #plan: Plan;
  #report: QuantizeReport;
  /** What is observed, while it is. */
  #observation: Observation | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: ModelWeightsParts) {
    this.#parts = parts;
    this.#request = parts.request;
    this.#report = parts.report;
    this.#plan = parts.report.plan;
  }

  get plan(): Plan {
    return this.#plan;
  }

  get report(): QuantizeReport {
    return this.#report;
  }

  /** See TextModel. */
  async reIsq(type: string, options: ReIsqOptions = {}): Promise<ReIsqReport> {
    const parsed = parseType(type);
    return this.#inTurn(() => this.#change({ ...this.#request, type: parsed }, options));
  }

  /** See TextModel. */
  planReIsq(type: string): Plan {
    const { opened } = this.#parts;
    return plan(opened.program, opened.sourceOf, { ...this.#request, type: parseType(type) });
  }

  /** See TextModel. */
  beginCalibration(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#observation) {
        const message = "a calibration is running already; apply or end it first";
        throw new IsqError("option/conflict", message, { field: "calibration" });
      }
      this.#observation = await beginObserving(this.#parts.language);
    });
  }

  /** See TextModel. */
  get calibrationStatus(): CalibrationStatus {
    const { weights } = this.#parts.opened.program;
    const collected = weights.flatMap(({ role }, weight) => (COLLECTED_ROLES.includes(role) ? [weight] : []));
    const rows = this.#observation ? collected.map((weight) => this.#observation![weight]?.rows[0] ?? 0) : [];
    return {
      collecting: this.#observation !== null,
      layers: collected.length,
      layersTracking: rows.filter((count) => count > 0).length,
      totalRows: rows.reduce((sum, count) => sum + count, 0),
      minRows: rows.reduce((least, count) => Math.min(least, count), rows[0] ?? 0),
      maxRows: rows.reduce((most, count) => Math.max(most, count), 0),
    };
  }

  /** See TextModel. */
  applyCalibration(options: ReIsqOptions = {}): Promise<CalibrationReport> {
    return this.#inTurn(async () => {
      const collected = this.#collected();
      const importance = importanceOfCollected(collected);
      const report = await this.#change({ ...this.#request, importance }, options, () =>
        this.#endObserving(),
      );
      return { ...report, collected };
    });
  }

  /** See TextModel. */
  endCalibration(): Promise<CollectedImportance | null> {
    return this.#inTurn(async () => {
      const collected = this.calibrationStatus.totalRows > 0 ? this.#collected() : null;
      await this.#endObserving();
      return collected;
    });
  }

  #collected(): CollectedImportance {
    const { program } = this.#parts.opened;
    const entries = this.#observation ? entriesOf(this.#observation, program) : new Map();
    if (entries.size > 0) return { entries, datasets: [], chunks: 0, chunkTokens: 0 };
    const message = this.#observation
      ? "no text has run through the model since the calibration was begun"
      : "no calibration was begun";
    throw new IsqError("calibration/none", message, { field: "calibration" });
  }

  async #endObserving(): Promise<void> {
    await endObserving(this.#parts.language);
    this.#observation = null;
  }

  /** Plans, swaps what differs, and throws `reisq/failed` when layers kept what they had. */
  async #change(
    request: PlanRequest,
    options: ReIsqOptions,
    onPlanned: () => Promise<void> = async () => {},
  ): Promise<ReIsqReport> {
    const { opened, language, backend } = this.#parts;
    const started = performance.now();
    const current = this.#plan;
    const origin = await chooseOrigin(opened.checkpoint.sources, options.from);
    const { sourceOf, source } =
      origin.from === "source" ? sourceFiles(opened) : residentWeights(current, language);
    const next = plan(opened.program, sourceOf, request);
    const { importance } = request;
    const sameImportance = importance === this.#request.importance;
    const rows = changedRows(next, current, { from: origin.from, sameImportance });
    await onPlanned();
    const inForce = [...current.rows];
    const onSwap = (swapped: readonly PlanRow[]) => {
      for (const row of swapped) inForce[row.weight] = row;
    };
    const swap = { language, backend, source, importance, rows, onSwap };
    const done = await swapLayers(swap, options).finally(() => {
      // Also of a swap that was stopped: what is in force is told.
      this.#plan = assemblePlan({ ...next, rows: inForce });
      this.#request = request;
    });
    const report = { plan: this.#plan, seconds: (performance.now() - started) / 1000, ...origin, ...done };
    this.#report = report;
    if (report.failures.length > 0) throw failureOf(report);
    return report;
  }

  /** Changes take turns: each plans from what the one before has left. */
  #inTurn<Result>(task: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(task);
    this.#turn = result.catch(() => {});
    return result;
  }
}

function failureOf(report: ReIsqReport): IsqError {
  const { failures } = report;
  const [{ layer, tensor, error }] = failures;
  const what = layer === null ? (tensor ?? "a tensor") : `layer ${layer}`;
  const others = failures.length > 1 ? ` and ${failures.length - 1} more` : "";
  const message = `${what}${others} kept the old weights: ${error.message}`;
  return new IsqError("reisq/failed", message, { ...(tensor !== null && { tensor }), failures, report });
}

function sourceFiles({ sourceOf, checkpoint }: OpenedModel): ValueSource {
  return { sourceOf, source: checkpoint };
}
