/** The tensors and what is in force for each. */

import type { Plan, PlanRow } from "../../src/plan.js";
import { find, table } from "../dom.js";

/** Rows that are shown at once; a mixture of many experts has tens of thousands. */
const SHOWN = 500;

const COLUMNS = ["name", "type", "shape", "bits per weight", "bytes", "encoder", "remark"];

const filter = find("filter", HTMLInputElement);
let rows: readonly PlanRow[] = [];

export function bytes(count: number): string {
  return count < 1e6 ? `${count.toLocaleString("en")} bytes` : `${(count / 1e6).toFixed(1)} MB`;
}

/** How many tensors have which type. */
export function countTypes(rows: readonly PlanRow[]): string {
  const counts = new Map<string, number>();
  for (const { type } of rows) counts.set(type, (counts.get(type) ?? 0) + 1);
  return [...counts].map(([type, count]) => `${count} ${type}`).join(", ");
}

function cells({ tensor, type, shape, bitsPerWeight, byteLength, algorithm, reason }: PlanRow): string[] {
  return [
    tensor,
    type,
    shape.join(" × "),
    bitsPerWeight.toFixed(3),
    byteLength.toLocaleString("en"),
    algorithm ?? "",
    reason ?? "",
  ];
}

function show(): void {
  const wanted = filter.value.toLowerCase();
  const matching = rows.filter(({ tensor, type }) => `${tensor} ${type}`.toLowerCase().includes(wanted));
  const shown = matching.slice(0, SHOWN);
  find("tensors", HTMLElement).replaceChildren(table("Tensors of the model", COLUMNS, shown.map(cells)));
  const more = matching.length > SHOWN ? `; the first ${SHOWN} are shown` : "";
  find("tensors-hint", HTMLElement).textContent = `${matching.length} of ${rows.length} tensors${more}`;
}

export function showTensors({ rows: all, totals }: Plan): void {
  rows = all;
  const summary = `${countTypes(rows)}: ${bytes(totals.byteLength)}, ${totals.bitsPerWeight.toFixed(3)} bits per weight`;
  find("tensors-summary", HTMLElement).textContent = summary;
  show();
}

export function startTensors(): void {
  filter.addEventListener("input", show);
}
