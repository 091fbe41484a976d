/** An audit as text: a line per tensor, what is wrong with the worst, a count of verdicts. */

import type { AuditReport, TensorReport } from "../audit.js";
import { formatExplanation } from "../oracle/explain.js";
import type { Inspection } from "../oracle/inspect.js";
import { formatTable } from "./text.js";

const RIGHT = new Set([3, 4, 5, 6]);

export function formatAudit({ file, source, tensors, ok }: AuditReport): string {
  const rows = tensors.map((report) => {
    const counts = report.findings?.counts;
    const cells = counts
      ? [counts.identical, counts["near-tie"], counts["other-search"], counts.foreign]
      : [];
    const shown = [0, 1, 2, 3].map((i) => (cells[i] === undefined ? "" : String(cells[i])));
    return [report.tensor, report.type, `[${report.shape.join(", ")}]`, ...shown, verdictText(report)];
  });
  const head = ["tensor", "type", "shape", "same", "tie", "search", "foreign", "verdict"];
  const verdicts = new Map<string, number>();
  for (const report of tensors) {
    const text = verdictText(report).replace(/ \(.*/, "");
    verdicts.set(text, (verdicts.get(text) ?? 0) + 1);
  }
  const totals = [...verdicts].map(([text, count]) => `${count} ${text}`).join("; ");
  const details = tensors.flatMap(detailsOf);
  const from = source === null ? "without a source" : `against ${source}`;
  return [
    formatTable(head, rows, RIGHT),
    ...(details.length > 0 ? ["", ...details] : []),
    "",
    `${ok ? "OK" : "NOT OK"} ${file} ${from}: ${totals}`,
    "",
  ].join("\n");
}

/** Also of tensors without a verdict: why not. */
function verdictText({ findings, dense, notCompared }: TensorReport): string {
  if (dense) return dense.equal ? "same values" : `other values (first at element ${dense.element})`;
  if (!findings) return `not compared (${notCompared})`;
  const { verdict, encoder } = findings;
  const { algorithm, importance, rounded } = encoder;
  const how = [
    algorithm,
    ...(importance ? ["importance"] : []),
    ...(rounded ? [`source rounded to ${rounded}`] : []),
  ];
  return `${verdict} (${how.join(", ")})`;
}

function detailsOf({ tensor, findings, inspection }: TensorReport): string[] {
  const lines = inspection ? inspectionLines(inspection) : [];
  const worst = findings?.worst;
  if (worst) {
    const { row, block, column, element, distance, explanation } = worst;
    lines.push(
      `worst block: row ${row}, block ${block} (columns from ${column}): element ${element} is ${distance.toFixed(3)} codes from its code`,
      ...(explanation ? formatExplanation(explanation).map((line) => `  ${line}`) : []),
    );
  }
  return lines.length > 0 ? [tensor, ...lines.map((line) => `  ${line}`)] : [];
}

function inspectionLines({ blocks, nonFinite, firstNonFinite, impossible }: Inspection): string[] {
  const lines: string[] = [];
  if (nonFinite > 0)
    lines.push(
      `${nonFinite} of ${blocks} blocks have a scale that is no number, first block ${firstNonFinite}`,
    );
  for (const { rule, count, first } of impossible)
    lines.push(`no encoder writes this: ${rule} (${count} times, first in block ${first})`);
  return lines;
}
