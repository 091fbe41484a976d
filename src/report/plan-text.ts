/** A plan as a table for the terminal. */

import type { Plan } from "../plan.js";
import { formatTable } from "./text.js";

/** A plan as a table of text, with its totals and what was not used. */
export function formatPlan(plan: Plan): string {
  const { totals } = plan;
  const rows = plan.rows.map((row) => [
    row.tensor,
    `[${row.shape.join(", ")}]`,
    row.source.type,
    row.type,
    row.algorithm ?? "-",
    row.importance === "none" ? "-" : row.importance,
    row.bitsPerWeight.toFixed(3),
    String(row.byteLength),
    row.reason ?? "",
  ]);
  const head = [
    "tensor",
    "shape",
    "source",
    "type",
    "algorithm",
    "importance",
    "bits/weight",
    "bytes",
    "why",
  ];
  const unused = plan.unusedRules.map((index) => `topology rule ${index + 1} decides for no tensor\n`);
  const overruled = new Map<number, number>();
  for (const index of plan.rows.flatMap((row) => row.overruled)) {
    overruled.set(index, (overruled.get(index) ?? 0) + 1);
  }
  const weaker = [...overruled].map(
    ([index, count]) => `topology rule ${index + 1} is overruled for ${count} tensors\n`,
  );
  const unknown = plan.unusedImportance;
  const others = unknown.length > 5 ? ` and ${unknown.length - 5} others` : "";
  const foreign =
    unknown.length === 0
      ? ""
      : `no tensor suits the importance of ${unknown.slice(0, 5).join(", ")}${others}\n`;
  return (
    `${formatTable(head, rows, new Set([6, 7]))}\n` +
    `${totals.quantizedTensors} of ${totals.tensors} tensors quantized; ${totals.sourceByteLength} → ${totals.byteLength} bytes; ` +
    `${totals.bitsPerWeight.toFixed(3)} bits per weight; at most ${totals.peakByteLength} bytes at once\n` +
    `${unused.join("")}${weaker.join("")}${foreign}plan ${plan.hash}\n`
  );
}
