/** What was measured of one or more quantized versions of a model: tables, and pages with plots. */

import { type DivergenceResult, quantile } from "../divergence.js";
import { exp64 } from "../math.js";
import type { PerplexityResult } from "../measure.js";
import type { TensorReport } from "../quantize.js";
import { type Column, htmlTable, renderPage, textTable } from "./page.js";
import { COLORS, lines, scatter } from "./svg.js";

/** What all reports say. */
export interface Measured {
  readonly model: string;
  /** Name of the text. */
  readonly text?: string;
  readonly chunkTokens?: number;
  readonly stride?: number;
  readonly backend: string;
}

/** A version of the model. */
export interface Version {
  /** A type, or what else it is. */
  readonly type: string;
  readonly bitsPerWeight: number;
  readonly byteLength: number;
}

export interface PerplexityVersion extends Version, PerplexityResult {}
export interface DivergenceVersion extends Version, Omit<DivergenceResult, "sorted"> {
  /** The divergence at 0, 1, … 100 percent of the predictions, from the least to the largest. */
  readonly percentiles: readonly number[];
}
export interface ErrorVersion extends Version {
  readonly tensors: readonly TensorReport[];
}

const VERSION: readonly Column<Version>[] = [
  { title: "type", cell: ({ type }) => type },
  { title: "bits/weight", cell: ({ bitsPerWeight }) => bitsPerWeight.toFixed(3) },
];

const PERPLEXITY: readonly Column<PerplexityVersion>[] = [
  ...VERSION,
  { title: "token-weighted", cell: ({ tokenWeighted }) => tokenWeighted.toFixed(4) },
  { title: "± standard error", cell: ({ standardError }) => standardError.toFixed(4) },
  { title: "mean of chunks", cell: ({ meanOfChunks }) => meanOfChunks.toFixed(4) },
  { title: "± spread", cell: ({ spread }) => spread.toFixed(4) },
  { title: "tokens", cell: ({ predictions }) => String(predictions) },
];

const nats = (value: number) => (value === 0 ? "0" : value.toExponential(3));

const DIVERGENCE: readonly Column<DivergenceVersion>[] = [
  ...VERSION,
  { title: "KL mean", cell: ({ mean }) => nats(mean) },
  { title: "± error", cell: ({ standardError }) => nats(standardError) },
  { title: "median", cell: ({ median }) => nats(median) },
  { title: "99 %", cell: ({ p99 }) => nats(p99) },
  { title: "99.9 %", cell: ({ p999 }) => nats(p999) },
  { title: "max", cell: ({ max }) => nats(max) },
  { title: "same top-1", cell: ({ sameTop }) => `${(100 * sameTop).toFixed(2)} %` },
  { title: "perplexity", cell: ({ model }) => model.tokenWeighted.toFixed(4) },
  { title: "unquantized", cell: ({ reference }) => reference.tokenWeighted.toFixed(4) },
];

/** Columns of what was done to one tensor. */
function errorColumns(tensors: readonly TensorReport[]): Column<TensorReport>[] {
  const weighted = tensors.some(({ error }) => error?.weightedRmse !== undefined);
  const again = tensors.some(({ reencodedBlocks }) => reencodedBlocks > 0);
  return [
    { title: "tensor", cell: ({ tensor }) => tensor },
    { title: "type", cell: ({ type }) => type, words: true },
    {
      title: "importance",
      cell: ({ importance }) => (importance === "none" ? "-" : importance),
      words: true,
    },
    { title: "bits/weight", cell: ({ bitsPerWeight }) => bitsPerWeight.toFixed(3) },
    { title: "RMSE", cell: ({ error }) => nats(error!.rmse) },
    ...(weighted
      ? [
          {
            title: "by importance",
            cell: ({ error }: TensorReport) => nats(error!.weightedRmse ?? Number.NaN),
          },
        ]
      : []),
    { title: "SNR dB", cell: ({ error }) => error!.snr.toFixed(2) },
    { title: "largest", cell: ({ error }) => nats(error!.max) },
    {
      title: "worst block: row, column, RMSE",
      cell: ({ error }) =>
        `${error!.worstBlock.row}, ${error!.worstBlock.column}, ${nats(error!.worstBlock.rmse)}`,
    },
    ...(again
      ? [{ title: "encoded again", cell: ({ reencodedBlocks }: TensorReport) => String(reencodedBlocks) }]
      : []),
  ];
}

/** Where and on what it was measured. */
export function describeMeasured({ model, text, chunkTokens, stride, backend }: Measured): string {
  const chunks =
    chunkTokens === undefined
      ? ""
      : `, chunks of ${chunkTokens} tokens${stride === undefined ? "" : `, ${stride} from one to the next`}`;
  return `${model}${text === undefined ? "" : ` on ${text}`}${chunks}; on ${backend}`;
}

const ACTIVATIONS = "Activations are quantized as in generation.";

export function perplexityText(versions: readonly PerplexityVersion[]): string {
  return textTable(PERPLEXITY, versions);
}

export function perplexityPage(measured: Measured, versions: readonly PerplexityVersion[]): string {
  const chunks = versions.map(({ type, chunks }) => ({
    name: type,
    values: chunks.map(({ nll }) => exp64(nll)),
    labels: chunks.map(({ index }) => `chunk ${index}`),
  }));
  return renderPage(`Perplexity: ${measured.model}`, {
    intro: `${describeMeasured(measured)}. ${ACTIVATIONS}`,
    sections: [
      { html: htmlTable(PERPLEXITY, versions) },
      { heading: "Size against perplexity", html: sizePlot(versions, (v) => v.tokenWeighted, "perplexity") },
      {
        heading: "Chunk by chunk",
        html: lines("Chunk by chunk", chunks, { label: "chunk" }, { label: "perplexity", log: true }),
      },
    ],
  });
}

/** A result as reports have it. */
export function divergenceVersion(
  version: Version,
  { sorted, ...result }: DivergenceResult,
): DivergenceVersion {
  const percentiles = Array.from({ length: 101 }, (_, i) => quantile(sorted, i / 100));
  return { ...version, ...result, percentiles };
}

export function divergenceText(versions: readonly DivergenceVersion[]): string {
  return textTable(DIVERGENCE, versions);
}

export function divergencePage(measured: Measured, versions: readonly DivergenceVersion[]): string {
  const curves = versions.map(({ type, percentiles }) => ({
    name: type,
    values: percentiles,
    labels: percentiles.map((_, i) => `${i} %`),
  }));
  const chunks = versions.map(({ type, chunks }) => ({
    name: type,
    values: chunks,
    labels: chunks.map((_, i) => `chunk ${i}`),
  }));
  const kl = { label: "KL divergence, nats", log: true };
  return renderPage(`KL divergence: ${measured.model}`, {
    intro: `How far predictions are from those of the unquantized model: ${describeMeasured(measured)}. ${ACTIVATIONS}`,
    sections: [
      { html: htmlTable(DIVERGENCE, versions) },
      { heading: "Size against divergence", html: sizePlot(versions, (v) => v.mean, "mean KL, nats", true) },
      {
        heading: "All predictions, from the least to the largest",
        html: lines("Percentiles", curves, { label: "percent of the predictions" }, kl),
      },
      { heading: "Chunk by chunk", html: lines("Chunk by chunk", chunks, { label: "chunk" }, kl) },
    ],
  });
}

export function errorText({ type, tensors }: ErrorVersion): string {
  return `${type}\n${textTable(errorColumns(tensors), tensors)}`;
}

export function errorPage(measured: Measured, versions: readonly ErrorVersion[]): string {
  const ratios = versions.map(({ type, tensors }) => ({
    name: type,
    values: tensors.map(({ error }) => error!.snr),
    labels: tensors.map(({ tensor }) => tensor),
  }));
  const byTensor = { label: "tensor, in the order of the model" };
  const snr = { label: "signal to noise, dB (higher is better)" };
  return renderPage(`Error of every tensor: ${measured.model}`, {
    intro: `Decoded weights against their source: ${describeMeasured(measured)}.`,
    sections: [
      { heading: "Signal to noise", html: lines("Signal to noise", ratios, byTensor, snr) },
      ...versions.map(({ type, tensors }) => ({
        heading: type,
        html: htmlTable(errorColumns(tensors), tensors),
      })),
    ],
  });
}

function sizePlot<Row extends Version>(
  versions: readonly Row[],
  figure: (row: Row) => number,
  label: string,
  log = false,
): string {
  const points = versions.map((row, i) => ({
    x: row.bitsPerWeight,
    y: figure(row),
    label: row.type,
    color: COLORS[i % COLORS.length],
  }));
  return scatter(`Size against ${label}`, points, { label: "bits per weight, whole model" }, { label, log });
}
