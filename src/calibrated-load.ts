/** Loading with a calibration file: the model as its files have it runs the text, and is then quantized in its place. */

import type { Backend, Session } from "./backends/backend.js";
import { type CalibrationProgress, collectFromText, importanceOfCollected } from "./calibrate.js";
import { type OpenedModel, openTokenizerOf } from "./load.js";
import { LanguageModel } from "./model/language-model.js";
import { type RunningOptions, scheduleOf } from "./model/paging.js";
import type { Tokenizer } from "./model/tokenizer.js";
import { placeModel } from "./place.js";
import { type Plan, type PlanRequest, plan } from "./plan.js";
import type { QuantizeModelOptions, QuantizeReport } from "./quantize.js";
import { changedRows } from "./re-isq.js";

/** A model on its way into a session. */
export interface Loading {
  readonly opened: OpenedModel;
  readonly backend: Backend;
  readonly session: Session;
  readonly language: LanguageModel;
  readonly tokenizer: Tokenizer;
}

/** Opens a session for a model and what runs it. */
export async function openLoading(
  opened: OpenedModel,
  backend: Backend,
  running: RunningOptions,
): Promise<Loading> {
  const tokenizer = await openTokenizerOf(opened, running.tokenizer);
  const schedule = scheduleOf(opened.program, running);
  const session = await backend.open(opened.program, schedule);
  const language = new LanguageModel(opened.program, session, schedule);
  return { opened, backend, tokenizer, session, language };
}

/** Opens a session for `work` and disposes it. */
export async function withSession<Result>(
  opened: OpenedModel,
  backend: Backend,
  running: RunningOptions,
  work: (loading: Loading) => Promise<Result>,
): Promise<Result> {
  const loading = await openLoading(opened, backend, running);
  try {
    return await work(loading);
  } finally {
    await loading.session.dispose();
  }
}

/** A text and what it is called in files. */
export interface CalibrationText {
  readonly text: string;
  readonly name: string;
}

/** Options of loading. */
export interface WorkOptions extends Omit<QuantizeModelOptions, "importance"> {
  /** Tells of the chunks of a calibration file. */
  readonly onCalibration?: (progress: CalibrationProgress) => void;
}

/** Places the model as its files have it, runs the text, and returns the request with the importance that it gave. */
export async function calibrate(
  { opened, backend, session, language, tokenizer }: Loading,
  request: PlanRequest,
  { text, name }: CalibrationText,
  { signal, onCalibration }: WorkOptions,
): Promise<{ request: PlanRequest; unquantized: QuantizeReport }> {
  const asStored = plan(opened.program, opened.sourceOf, { type: null });
  const stop = signal ? { signal } : {};
  const unquantized = await placeModel(asStored, opened.checkpoint, backend, session, stop);
  const collected = await collectFromText(language, tokenizer, text, {
    ...stop,
    dataset: name,
    ...(onCalibration && { onProgress: onCalibration }),
  });
  const { calibration: _, ...rest } = request;
  return { request: { ...rest, importance: importanceOfCollected(collected) }, unquantized };
}

/** Places what the request asks for, after calibrating with the text, if there is one. Throws as plan and placeModel. */
export async function placeAsAsked(
  loading: Loading,
  asked: PlanRequest,
  text: CalibrationText | null,
  options: WorkOptions,
): Promise<{ request: PlanRequest; report: QuantizeReport }> {
  const { opened, backend, session } = loading;
  const place = (decided: Plan, request: PlanRequest) =>
    placeModel(decided, opened.checkpoint, backend, session, workOptions(request, options));
  if (!text) {
    return { request: asked, report: await place(plan(opened.program, opened.sourceOf, asked), asked) };
  }
  const { request, unquantized } = await calibrate(loading, asked, text, options);
  const decided = plan(opened.program, opened.sourceOf, request);
  // Tensor by tensor over what is there, so that the two models are never in memory together.
  const rows = changedRows(decided, unquantized.plan, { from: "source", sameImportance: false });
  const { tensors: made, seconds } = await place({ ...decided, rows }, request);
  const madeOf = new Map(made.map((tensor) => [tensor.tensor, tensor]));
  const tensors = unquantized.tensors.map((kept) => madeOf.get(kept.tensor) ?? kept);
  return { request, report: { plan: decided, tensors, seconds } };
}

export function workOptions({ importance }: PlanRequest, options: WorkOptions): QuantizeModelOptions {
  return { ...options, ...(importance && { importance }) };
}
