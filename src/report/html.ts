/** A page of what quantization cost: one table, two plots. */

import type { TensorError } from "../tensor-error.js";
import { type Column, htmlTable, renderPage } from "./page.js";
import { COLORS, escapeHtml, lines, scatter } from "./svg.js";

/** One quantized version of the model. */
export interface CostRow {
  readonly type: string;
  readonly bitsPerWeight: number;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly perplexityBefore: number;
  readonly perplexityAfter: number;
  /** Mean KL divergence from the unquantized model, nats per token. */
  readonly divergence: number;
  /** Seconds that quantizing took. */
  readonly seconds: number;
  readonly tensors: readonly { readonly tensor: string; readonly error?: TensorError }[];
}

/** What {@link renderCostPage} shows: the types that a model was quantized to, and what each cost. */
export interface CostReport {
  readonly model: string;
  /** Tokens behind the perplexity and the divergence. */
  readonly tokens: number;
  readonly rows: readonly CostRow[];
  readonly sample?: { readonly type: string; readonly text: string };
}

/** Column titles and cells of the table, shared by the page and the terminal. */
export const COST_COLUMNS: readonly Column<CostRow>[] = [
  { title: "type", cell: (row) => row.type },
  { title: "bits/weight", cell: (row) => row.bitsPerWeight.toFixed(3) },
  { title: "bytes before", cell: (row) => String(row.bytesBefore) },
  { title: "bytes after", cell: (row) => String(row.bytesAfter) },
  { title: "ppl before", cell: (row) => row.perplexityBefore.toFixed(4) },
  { title: "ppl after", cell: (row) => row.perplexityAfter.toFixed(4) },
  { title: "KL (nats)", cell: (row) => row.divergence.toExponential(2) },
  { title: "seconds", cell: (row) => row.seconds.toFixed(2) },
];

/** Renders the page. */
export function renderCostPage(report: CostReport): string {
  const { model, tokens, rows, sample } = report;
  const size = scatter(
    "Size against perplexity",
    rows.map((row, i) => ({
      x: row.bitsPerWeight,
      y: row.perplexityAfter,
      label: row.type,
      color: COLORS[i % COLORS.length],
    })),
    { label: "bits per weight, whole model" },
    { label: `perplexity on ${tokens} tokens` },
  );
  const errors = lines(
    "Error per tensor",
    rows.map((row) => {
      const measured = row.tensors.filter((t) => t.error !== undefined);
      return {
        name: row.type,
        values: measured.map((t) => t.error?.snr ?? 0),
        labels: measured.map((t) => t.tensor),
      };
    }),
    { label: "tensor, in the order of the model" },
    { label: "signal to noise, dB (higher is better)" },
  );
  return renderPage(`What quantization costs: ${model}`, {
    intro: `Perplexity (token-weighted) and KL divergence from the unquantized model, on ${tokens} tokens.`,
    sections: [
      { html: htmlTable(COST_COLUMNS, rows) },
      { heading: "Size against perplexity", html: size },
      { heading: "Error per tensor", html: errors },
      ...(sample
        ? [{ heading: `A sample, ${sample.type}`, html: `<pre>${escapeHtml(sample.text)}</pre>` }]
        : []),
    ],
  });
}
