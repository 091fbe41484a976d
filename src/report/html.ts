/** A self-contained HTML page of what quantization cost: one table, two plots, no script, nothing fetched. */

import type { TensorError } from "../measure.js";
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

export interface CostReport {
  readonly model: string;
  /** Tokens behind the perplexity and the divergence. */
  readonly tokens: number;
  readonly rows: readonly CostRow[];
  readonly sample?: { readonly type: string; readonly text: string };
}

/** Column titles and cells of the table, shared by the page and the terminal. */
export const COST_COLUMNS: readonly { readonly title: string; readonly cell: (row: CostRow) => string }[] = [
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
  const title = `What quantization costs: ${escapeHtml(model)}`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto }
pre { white-space: pre-wrap; background: #f6f6f6; padding: 1rem }
</style>
<h1>${title}</h1>
<p>Perplexity (token-weighted) and KL divergence from the unquantized model, on ${tokens} tokens.</p>
${renderTable(rows)}
<h2>Size against perplexity</h2>
${size}
<h2>Error per tensor</h2>
${errors}
${sample ? `<h2>A sample, ${escapeHtml(sample.type)}</h2>\n<pre>${escapeHtml(sample.text)}</pre>` : ""}
</html>
`;
}

function renderTable(rows: readonly CostRow[]): string {
  const head = COST_COLUMNS.map((column) => `<th scope="col">${column.title}</th>`).join("");
  const body = rows.map(
    (row) => `<tr>${COST_COLUMNS.map((column) => `<td>${escapeHtml(column.cell(row))}</td>`).join("")}</tr>`,
  );
  return `<table><thead><tr>${head}</tr></thead><tbody>${body.join("\n")}</tbody></table>`;
}
